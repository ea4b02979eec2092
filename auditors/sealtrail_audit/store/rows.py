"""The rows of one message in all tables but dispositions, against what they must be. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sealtrail.errors import MalformedError
from sealtrail.findings import Code
from sealtrail_audit.store import expected, messages
from sealtrail_audit.store.columns import BATCHES, PER_EVENT, QUARANTINE
from sealtrail_audit.store.commits import REFUSED
from sealtrail_audit.store.compare import Finding, differences, same

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sealtrail_audit.store.columns import Columns
    from sealtrail_audit.store.messages import Reading, Row

_REFUSAL = ("disposition", "code", "detail")


def of_message(place: Mapping[str, Any], reading: Reading) -> Iterator[Finding]:
    """Rows in payloads, batches and quarantine."""
    must, message = reading.disposition, reading.message
    key = {**place, "offset": message.offset}
    if must is not None and must.taken:
        yield from messages.payload_findings(place, reading)
        yield from _batches(key, reading)
    else:
        for name, rows in (("payloads", message.payloads), (BATCHES.name, message.batches)):
            for row in rows:
                detail = "no batch was accepted there"
                yield Finding(Code.ROW_ADDED, name, key, detail, stored=_brief(row))
    yield from _quarantine(key, reading)


def _batches(key: Mapping[str, Any], reading: Reading) -> Iterator[Finding]:
    must, message = reading.disposition, reading.message
    if must is None:
        return
    named = {**key, "chain_id": must.chain_id, "batch_seq": must.batch_seq}
    if reading.batch is None:
        # Without the signed bytes there is nothing to compare its columns with.
        if not message.batches:
            yield Finding(Code.ROW_MISSING, BATCHES.name, named)
        return
    wanted = expected.batch_row(reading.batch, reading.meta())
    stored: Columns = {name: [row[name] for row in message.batches] for name in wanted}
    if not same(wanted, stored):
        yield from differences(BATCHES, named, wanted, stored)


def _quarantine(key: Mapping[str, Any], reading: Reading) -> Iterator[Finding]:
    must, rows = reading.disposition, reading.message.quarantine
    if must is None or must.disposition not in REFUSED:
        for row in rows:
            yield Finding(Code.ROW_ADDED, QUARANTINE.name, key, stored=_brief(row))
        return
    if not rows:
        yield Finding(Code.ROW_MISSING, QUARANTINE.name, key, computed=must.code)
    for row in rows:
        value = row["value"]
        digest = messages.quarantined_digest(value, must)
        pairs: list[tuple[str, Any, Any]] = [
            ("value", digest, must.digest),
            ("step", row["step"], must.step),
            ("arrival", row["arrival"], must.arrival),
            *((n, row[n], getattr(must, n).encode("utf-8", "surrogateescape")) for n in _REFUSAL),
        ]
        for name, stored, computed in pairs:
            if stored != computed:
                yield Finding(Code.ROW_CHANGED, QUARANTINE.name, key, "", name, stored, computed)
                break


def _brief(row: Row) -> dict[str, Any]:
    """A row without the whole message in it."""
    return {
        name: sha256(value).digest() if name == "value" and value is not None else value
        for name, value in row.items()
    }


class EventRows:
    """The stored rows of a chunk in the tables that hold rows of events.

    Args:
        tables: table name -> columns, sorted by offset and key.
    """

    def __init__(self, tables: Mapping[str, Columns]) -> None:
        self._tables = tables

    def slice(self, name: str, offset: int) -> Columns:
        """The rows of one message."""
        columns = self._tables[name]
        offsets = columns["offset"]
        low, high = bisect_left(offsets, offset), bisect_right(offsets, offset)
        return {column: values[low:high] for column, values in columns.items()}

    def metas(self) -> dict[int, tuple[int, bytes, int]]:
        """Of each offset the commonest arrival, time source and branch of its events."""
        columns = self._tables["events"]
        votes: dict[int, dict[tuple[int, bytes, int], int]] = {}
        names = ("offset", "arrival", "time_source", "branch")
        for offset, *values in zip(*(columns[n] for n in names), strict=True):
            held = votes.setdefault(offset, {})
            meta = (values[0], values[1], values[2])
            held[meta] = held.get(meta, 0) + 1
        return {offset: max(held, key=held.__getitem__) for offset, held in votes.items()}

    def check(self, place: Mapping[str, Any], reading: Reading) -> Iterator[Finding]:
        """All rows of the events of one verified batch."""
        if reading.batch is None:
            return
        meta = reading.meta()
        key = {**place, "offset": meta.offset}
        try:
            wanted = expected.rows(reading.batch, meta).tables
        except MalformedError as error:
            # Its producer signed it, and the engine read something from it: nobody else would.
            yield Finding(Code.BAD_EVENT, "payloads", key, error.message, "value")
            return
        for table in PER_EVENT:
            stored = self.slice(table.name, meta.offset)
            if not same(wanted[table.name], stored):
                yield from differences(table, key, wanted[table.name], stored)

    def added(self, place: Mapping[str, Any], offsets: Collection[int]) -> Iterator[Finding]:
        """Rows of offsets where no batch was accepted."""
        for table in PER_EVENT:
            there = set(self._tables[table.name]["offset"]) - set(offsets)
            for offset in sorted(there):
                stored = self.slice(table.name, offset)
                nothing: Columns = {name: [] for name in stored}
                key = {**place, "offset": offset}
                yield from differences(table, key, nothing, stored)


def covered(readings: Sequence[Reading]) -> tuple[list[Reading], set[int]]:
    """Verified readings, and all offsets whose events are accounted for or cannot be checked."""
    taken = [r for r in readings if r.disposition is not None and r.disposition.taken]
    return [r for r in taken if r.batch is not None], {r.message.offset for r in taken}
