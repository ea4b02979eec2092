"""What the store remembers, asked in SQL: the ports of `ports` and `keys_reader` over a Store."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail_processor import rebuild
from sealtrail_processor.keys_reader import StoredRecord
from sealtrail_processor.model import Log

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sealtrail.chain import Chains
    from sealtrail_processor.ports import Coordinates
    from sealtrail_processor.store import Store

_LOG = "log_id = {log_id:String} AND topic = {topic:String} AND partition = {partition:UInt16}"
KEY_COLUMNS = ("log_id", "topic", "partition", "offset", "arrival", "record_key", "record_value")


def where(log: Log) -> dict[str, object]:
    """Query parameters that name a log."""
    return {"log_id": log.log_id, "topic": log.topic, "partition": log.partition}


class StoreLedger:
    """`ports.Ledger` over a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def cursor(self, log: Log) -> int | None:
        """See ports.Ledger."""
        return rebuild.cursor(self._store, log)

    def last_arrival(self, log: Log) -> int:
        """See ports.Ledger."""
        rows = self._store.query(
            f"SELECT toUnixTimestamp64Micro(max(arrival)) FROM commits WHERE {_LOG}",  # noqa: S608 - our own text
            where(log),
        )
        return int(rows[0][0])

    def chains(self, topic: str, partition: int) -> Chains:
        """See ports.Ledger."""
        return rebuild.chains(self._store, topic, partition)

    def receipts(self, log: Log, offsets: Sequence[int], now: int) -> Mapping[int, int]:
        """See ports.Ledger."""
        return rebuild.receipts(self._store, log, offsets, now)

    def stored_hashes(
        self, keys: Collection[tuple[bytes, int]]
    ) -> Mapping[tuple[bytes, int], Sequence[tuple[bytes, int]]]:
        """See ports.Ledger."""
        return rebuild.stored_hashes(self._store, keys)

    def parked(
        self, coordinates: Collection[Coordinates]
    ) -> Mapping[Coordinates, tuple[int, bytes]]:
        """See ports.Ledger."""
        found: dict[Coordinates, tuple[int, bytes]] = {}
        logs: dict[Log, list[int]] = {}
        for log_id, topic, partition, offset in coordinates:
            if 0 <= partition < 2**16 and 0 <= offset < 2**63:
                logs.setdefault(Log(log_id, topic, partition), []).append(offset)
        for log, offsets in logs.items():
            rows = self._store.query(
                "SELECT offset, toUnixTimestamp64Micro(arrival), digest FROM dispositions FINAL "  # noqa: S608 - our own text
                f"WHERE {_LOG} AND offset IN {{offsets:Array(UInt64)}} "
                "AND disposition = 'parked'",
                where(log) | {"offsets": offsets},
            )
            for offset, arrival, digest in rows:
                found[log.log_id, log.topic, log.partition, offset] = (arrival, bytes(digest))
        return found


class StoredKeys:
    """`keys_reader.RecordStore` over a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self) -> list[StoredRecord]:
        """See keys_reader.RecordStore."""
        return self._read("1", {})

    def keep(self, records: Sequence[StoredRecord]) -> dict[tuple[Log, int], int]:
        """See keys_reader.RecordStore."""
        kept: dict[tuple[Log, int], int] = {}
        logs: dict[Log, list[StoredRecord]] = {}
        for record in records:
            logs.setdefault(record.log, []).append(record)
        for log, new in logs.items():
            for record in new:
                # The token names the coordinates alone: the first writer wins.
                place = f"{log.log_id}/{log.topic}/{log.partition}/{record.offset}"
                token = sha256(f"key_records/{place}".encode()).hexdigest()
                row = (*_place(log), record.offset, record.arrival, record.key, record.value)
                self._store.insert("key_records", KEY_COLUMNS, [row], token)
            offsets = [record.offset for record in new]
            stored = self._read(
                f"{_LOG} AND offset IN {{offsets:Array(UInt64)}}",
                where(log) | {"offsets": offsets},
            )
            kept |= {(r.log, r.offset): r.arrival for r in stored}
        return kept

    def _read(self, condition: str, parameters: dict[str, object]) -> list[StoredRecord]:
        rows = self._store.query(
            "SELECT log_id, topic, partition, offset, toUnixTimestamp64Micro(min(arrival)) AS at, "  # noqa: S608 - our own text
            "hex(any(record_key)), hex(any(record_value)) FROM key_records "
            f"WHERE {condition} GROUP BY log_id, topic, partition, offset "
            "ORDER BY at, log_id, partition, offset",
            parameters,
        )
        return [
            StoredRecord(
                Log(log_id, topic, partition),
                offset,
                arrival,
                bytes.fromhex(key),
                bytes.fromhex(value),
            )
            for log_id, topic, partition, offset, arrival, key, value in rows
        ]


def _place(log: Log) -> tuple[str, str, int]:
    return log.log_id, log.topic, log.partition
