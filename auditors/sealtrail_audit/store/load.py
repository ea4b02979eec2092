"""What the audit asks of the store. Rows are read raw, copies included: FINAL would hide some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealtrail.findings import Code
from sealtrail_audit.store.chains import KnownGap
from sealtrail_audit.store.columns import (
    BATCHES,
    DISPOSITIONS,
    PAYLOADS,
    PER_EVENT,
    QUARANTINE,
)
from sealtrail_audit.store.commits import Commit, Disposition
from sealtrail_audit.store.messages import FOREVER, Message
from sealtrail_audit.store.rows import EventRows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sealtrail_audit.reader import Reader
    from sealtrail_audit.store.columns import Columns, Table

Place = dict[str, Any]


class Loader:
    """Rows of a store by log, partition and range of offsets.

    Args:
        reader: the store.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def logs(self) -> list[Place]:
        """Partitions of logs that have commits."""
        sql = """
            SELECT DISTINCT log_id, topic, partition FROM commits
            ORDER BY topic, partition, log_id
        """
        names = ("log_id", "topic", "partition")
        return [dict(zip(names, row, strict=True)) for row in self._reader.rows(sql)]

    def commits(self, place: Mapping[str, Any]) -> list[Commit]:
        """All commits of a partition of a log."""
        sql = """
            SELECT first_offset, last_offset, toInt8(kind), messages, rows, digest,
                toUnixTimestamp64Micro(arrival)
            FROM commits
            WHERE log_id = {log:String} AND topic = {topic:String}
              AND partition = {partition:UInt16}
        """
        return [Commit(*row) for row in self._reader.rows(sql, _bound(place))]

    def table(self, table: Table, place: Mapping[str, Any], low: int, high: int) -> Columns:
        """The compared columns of a table for a range of offsets (both ends included)."""
        parameters = {**_bound(place), "low": low, "high": high}
        names = table.columns
        columns: Columns = {name: [] for name in names}
        for block in self._reader.blocks(table.query(), parameters):
            for name, values in zip(names, block, strict=True):
                columns[name] += values
        return columns

    def dispositions(self, place: Mapping[str, Any], low: int, high: int) -> list[Disposition]:
        """Dispositions of a range of offsets; equal copies are one."""
        columns = self.table(DISPOSITIONS, place, low, high)
        found = [_disposition(row) for row in _rows(columns)]
        return list(dict.fromkeys(found))

    def chunk(
        self, place: Mapping[str, Any], low: int, high: int
    ) -> tuple[list[Message], EventRows]:
        """All rows of a range of offsets."""
        events = EventRows({t.name: self.table(t, place, low, high) for t in PER_EVENT})
        by_offset: dict[int, Message] = {}
        for item in self.dispositions(place, low, high):
            by_offset.setdefault(item.offset, Message(item.offset)).dispositions.append(item)
        for table in (PAYLOADS, BATCHES, QUARANTINE):
            for row in _rows(self.table(table, place, low, high)):
                offset = row["offset"]
                held = getattr(by_offset.setdefault(offset, Message(offset)), table.name)
                if row not in held:
                    held.append(row)
        for offset, meta in events.metas().items():
            by_offset.setdefault(offset, Message(offset)).events = meta
        self._released(place, by_offset)
        return [by_offset[offset] for offset in sorted(by_offset)], events

    def _released(self, place: Mapping[str, Any], by_offset: Mapping[int, Message]) -> None:
        """A released message was judged by what was known when it came back."""
        released = [m for m in by_offset.values() if any(d.from_topic for d in m.dispositions)]
        if not released:
            return
        sql = """
            SELECT offset, toUnixTimestamp64Micro(min(arrival)) FROM receipts
            WHERE log_id = {log:String} AND topic = {topic:String}
              AND partition = {partition:UInt16}
              AND offset IN (SELECT arrayJoin({offsets:Array(UInt64)}))
            GROUP BY offset
        """
        offsets = [m.offset for m in released]
        found = dict(self._reader.rows(sql, {**_bound(place), "offsets": offsets}))
        for message in released:
            message.known_at = found.get(message.offset, FOREVER)

    def leftovers(self, place: Mapping[str, Any], end: int) -> tuple[int, int]:
        """How many messages lie above the committed offset, and when the last arrived."""
        above = """
            SELECT offset, arrival FROM {}
            WHERE log_id = {{log:String}} AND topic = {{topic:String}}
              AND partition = {{partition:UInt16}} AND offset > {{end:UInt64}}
        """
        tables = ("dispositions", "payloads", "batches", "quarantine")
        sql = (
            "SELECT uniqExact(offset), toUnixTimestamp64Micro(max(arrival)) "  # noqa: S608 - our own
            f"FROM ({' UNION ALL '.join(above.format(table) for table in tables)})"
        )
        count, arrival = self._reader.rows(sql, {**_bound(place), "end": end})[0]
        return count, arrival

    def ends(self) -> dict[tuple[str, str, int], tuple[int, int]]:
        """Per partition of a log the end that readers' views show, and that of its commits."""
        sql = """
            SELECT m.log_id, m.topic, m.partition,
                if(c.topic = m.topic, toInt64(c.committed), -1), toInt64(m.last)
            FROM (
                SELECT log_id, topic, partition, max(last_offset) AS last
                FROM commits GROUP BY log_id, topic, partition
            ) AS m
            LEFT JOIN committed AS c
                ON m.log_id = c.log_id AND m.topic = c.topic AND m.partition = c.partition
        """
        return {(row[0], row[1], row[2]): (row[3], row[4]) for row in self._reader.rows(sql)}

    def known_gaps(self) -> list[KnownGap]:
        """GAP findings of the pipeline."""
        sql = f"SELECT DISTINCT chain_id, batch_seq FROM findings WHERE code = '{Code.GAP}'"  # noqa: S608 - a constant
        return [KnownGap(*row) for row in self._reader.rows(sql)]

    def accepted_digest(self, chain_id: bytes, batch_seq: int) -> bytes | None:
        """Digest of the accepted message with a place in a chain."""
        sql = """
            SELECT digest FROM dispositions
            WHERE chain_id = toFixedString(unhex({chain:String}), 32) AND batch_seq = {seq:UInt64}
              AND disposition IN ('accepted', 'released')
            ORDER BY branch LIMIT 1
        """
        rows = self._reader.rows(sql, {"chain": chain_id.hex(), "seq": batch_seq})
        return rows[0][0] if rows else None


def _bound(place: Mapping[str, Any]) -> dict[str, Any]:
    return {"log": place["log_id"], "topic": place["topic"], "partition": place["partition"]}


def _rows(columns: Columns) -> list[dict[str, Any]]:
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


_TEXTS = ("time_source", "disposition", "code", "detail", "from_log_id", "from_topic")


def _disposition(row: dict[str, Any]) -> Disposition:
    texts = {name: row[name].decode("utf-8", "surrogateescape") for name in _TEXTS}
    return Disposition(**{**row, **texts})
