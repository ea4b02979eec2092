"""What a store holds at a moment, written down, so that a restored one can be held against it.

A manifest names, for each partition of a log, the committed offset; below it, for each table, the
number of rows and a checksum; and the head of each chain. It is taken before a backup: what was
written since lies above these offsets and does not count. It proves nothing by itself (the
checksums are the engine's, and nobody signs it); `audit store`, which recomputes hashes, chains and
signatures, does. What it adds is completeness: a restored store that lacks its last days is
consistent in itself.

Reading and comparing only; the file is read and written by the command.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sealtrail.errors import MISSHAPEN, MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sealtrail_audit.reader import Reader

FORMAT = "sealtrail-manifest/1"
TABLES = (
    "batches",
    "payloads",
    "dispositions",
    "quarantine",
    "events",
    "edges_by_parent",
    "edges_by_child",
    "entity_events",
)


@dataclass(frozen=True, slots=True)
class Held:
    """Rows of a table for one partition of a log, and their checksum (16 hexadecimal digits)."""

    table: str
    log_id: str
    topic: str
    partition: int
    rows: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Head:
    """Where a branch of a chain ends: its batches, the last one's number and statement hash."""

    log_id: str
    chain_id: str
    branch: int
    batches: int
    batch_seq: int
    statement_hash: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A store at a moment; committed: (log_id, topic, partition, last committed offset)."""

    made_at: int
    committed: tuple[tuple[str, str, int, int], ...]
    tables: tuple[Held, ...]
    chains: tuple[Head, ...]
    key_records: int

    def to_json(self) -> str:
        """As text, one entry a line where there are many."""
        value = {"format": FORMAT, **asdict(self)}
        return json.dumps(value, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read one back.

        Raises:
            MalformedError: it is none.
        """
        try:
            raw = json.loads(text)
            if raw.pop("format") != FORMAT:
                raise MalformedError("the manifest is of another format", hint=f"want {FORMAT}")
            return cls(
                int(raw["made_at"]),
                tuple((str(a), str(b), int(c), int(d)) for a, b, c, d in raw["committed"]),
                tuple(Held(**row) for row in raw["tables"]),
                tuple(Head(**row) for row in raw["chains"]),
                int(raw["key_records"]),
            )
        except MISSHAPEN as error:
            raise MalformedError(
                f"this is no manifest: {error}", hint="make one with: sealtrail audit manifest FILE"
            ) from None


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that the restored store holds differently."""

    where: str
    expected: str
    found: str


def committed(reader: Reader) -> tuple[tuple[str, str, int, int], ...]:
    """The committed offset of each partition of a log."""
    rows = reader.rows(
        "SELECT log_id, topic, partition, committed FROM committed"
        " ORDER BY topic, partition, log_id"
    )
    return tuple((row[0], row[1], int(row[2]), int(row[3])) for row in rows)


def take(
    reader: Reader, made_at: int, ends: tuple[tuple[str, str, int, int], ...] | None = None
) -> Manifest:
    """What the store holds.

    Args:
        reader: the store.
        made_at: microseconds since 1970.
        ends: up to which offsets; up to the committed ones unless given.
    """
    ends = committed(reader) if ends is None else ends
    held = tuple(_held(reader, table, end) for end in ends for table in TABLES)
    keys = reader.rows("SELECT uniqExact(log_id, topic, partition, offset) FROM key_records")
    return Manifest(made_at, ends, held, tuple(_heads(reader, ends)), int(keys[0][0]))


def _held(reader: Reader, table: str, end: tuple[str, str, int, int]) -> Held:
    log_id, topic, partition, offset = end
    rows = reader.rows(
        f"SELECT count(), lower(hex(groupBitXor(cityHash64(*)))) FROM {table} FINAL "  # noqa: S608 - our own names
        "WHERE log_id = {log:String} AND topic = {topic:String} AND partition = {partition:UInt16}"
        " AND offset <= {end:UInt64}",
        {"log": log_id, "topic": topic, "partition": partition, "end": max(offset, 0)},
    )
    return Held(table, log_id, topic, partition, int(rows[0][0]), str(rows[0][1]))


def _heads(reader: Reader, ends: tuple[tuple[str, str, int, int], ...]) -> Iterator[Head]:
    for log_id, topic, partition, offset in ends:
        rows = reader.rows(
            "SELECT lower(hex(chain_id)), branch, count(), max(batch_seq),"
            " lower(hex(argMax(statement_hash, batch_seq))) FROM batches FINAL"
            " WHERE log_id = {log:String} AND topic = {topic:String}"
            " AND partition = {partition:UInt16} AND offset <= {end:UInt64}"
            " GROUP BY chain_id, branch ORDER BY chain_id, branch",
            {"log": log_id, "topic": topic, "partition": partition, "end": max(offset, 0)},
        )
        for chain_id, branch, batches, batch_seq, digest in rows:
            yield Head(log_id, chain_id, int(branch), int(batches), int(batch_seq), digest)


def compare(expected: Manifest, reader: Reader) -> Iterator[Difference]:
    """Every difference between a manifest and a store, the most telling first."""
    now = {(log, topic, part): end for log, topic, part, end in committed(reader)}
    for log_id, topic, partition, end in expected.committed:
        reached = now.get((log_id, topic, partition), -1)
        if reached < end:
            where = f"{topic}/{partition} of log {log_id}: committed offset"
            yield Difference(where, str(end), str(reached))
    found = take(reader, expected.made_at, expected.committed)
    if found.key_records < expected.key_records:
        yield Difference("key records", str(expected.key_records), str(found.key_records))
    yield from _chains(expected.chains, found.chains)
    held = {(h.table, h.log_id, h.topic, h.partition): h for h in found.tables}
    for want in expected.tables:
        where = f"{want.table}, {want.topic}/{want.partition} of log {want.log_id}"
        have = held.get((want.table, want.log_id, want.topic, want.partition))
        if have is None:
            yield Difference(where, f"{want.rows} rows", "not asked for: the manifest was edited")
        elif want.rows != have.rows:
            yield Difference(f"{where}: rows", str(want.rows), str(have.rows))
        elif want != have:
            yield Difference(f"{where}: checksum", want.checksum, have.checksum)


def _chains(expected: tuple[Head, ...], found: tuple[Head, ...]) -> Iterator[Difference]:
    heads: Mapping[Any, Head] = {(head.log_id, head.chain_id, head.branch): head for head in found}
    for want in expected:
        have = heads.get((want.log_id, want.chain_id, want.branch))
        if want == have:
            continue
        where = f"chain {want.chain_id}, branch {want.branch}"
        text = "not there" if have is None else _head(have)
        yield Difference(where, _head(want), text)


def _head(head: Head) -> str:
    return f"{head.batches} batches up to {head.batch_seq} ({head.statement_hash[:16]})"
