"""What the store remembers, asked in SQL: the ports of `ports` and `keys_reader` over a Store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealtrail_processor.judging import model
from sealtrail_processor.judging.keys_reader import StoredRecord
from sealtrail_processor.store import chains, rebuild

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sealtrail_processor.judging.keeping import Spent
    from sealtrail_processor.judging.model import Log
    from sealtrail_processor.judging.ports import Coordinates, History, Life, Stored
    from sealtrail_processor.judging.suspicion import Death
    from sealtrail_processor.store.port import Store

# What `rebuild` reads.
REBUILT_FROM = (
    "commits",
    "commit_ends",
    "batches",
    "dispositions",
    "receipts",
    "key_records",
    "deaths",
)
_LOG = "log_id = {log_id:String} AND topic = {topic:String} AND partition = {partition:UInt16}"


def where(log: Log) -> dict[str, object]:
    """Query parameters that name a log."""
    return {"log_id": log.log_id, "topic": log.topic, "partition": log.partition}


class StoreLedger:
    """`ports.Ledger` over a store.

    Args:
        store: who is asked.
        replicated: whether its tables are replicas, which may lag behind what others acknowledged.
    """

    def __init__(self, store: Store, *, replicated: bool = False) -> None:
        self._store = store
        self._replicated = replicated

    def settle(self, partition: int) -> None:
        """See ports.Ledger."""
        del partition  # all of a shard's are in the same tables
        self._sync(*REBUILT_FROM)

    def _sync(self, *tables: str) -> None:
        for table in tables if self._replicated else ():
            self._store.command(f"SYSTEM SYNC REPLICA {self._store.database}.{table}")

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

    def spent(self, log: Log, end: int) -> Spent:
        """See ports.Ledger."""
        return rebuild.spent(self._store, log, end)

    def lives(self, topic: str, partition: int) -> Sequence[Life]:
        """See ports.Ledger."""
        return chains.lives(self._store, topic, partition)

    def chains(self, topic: str, partition: int, most: int) -> Sequence[Stored]:
        """See ports.Ledger."""
        return chains.newest(self._store, topic, partition, most)

    def history(self, place: Log, lives: Sequence[Life], chain_ids: Collection[bytes]) -> History:
        """See ports.Ledger."""
        self._sync("batches")
        return chains.history(self._store, place, lives, chain_ids)

    def namesakes(
        self, place: Log, lives: Sequence[Life], chain_ids: Collection[bytes]
    ) -> set[bytes]:
        """See ports.Ledger."""
        self._sync("batches")
        return chains.namesakes(self._store, place, lives, chain_ids)

    def receipts(self, log: Log, offsets: Sequence[int], now: int) -> Mapping[int, int]:
        """See ports.Ledger."""
        return rebuild.receipts(self._store, log, offsets, now)

    def receipts_of(
        self, offsets: Mapping[Log, Sequence[int]], now: int
    ) -> Mapping[Log, Mapping[int, int]]:
        """See ports.Ledger."""
        return rebuild.receipts_of(self._store, offsets, now)

    def stored_hashes(
        self, place: Log, lives: Sequence[Life], keys: Collection[tuple[bytes, int]]
    ) -> Mapping[tuple[bytes, int], Sequence[tuple[bytes, int]]]:
        """See ports.Ledger."""
        self._sync("batches")
        return chains.hashes(self._store, place, lives, keys)

    def deaths(self, log_id: str, topic: str) -> Sequence[Death]:
        """See ports.Ledger."""
        return rebuild.deaths(self._store, log_id, topic)

    def record_death(self, death: Death) -> None:
        """See ports.Ledger."""
        rebuild.add_death(self._store, death)

    def holds(self, log: Log, offset: int) -> bool:
        """See ports.Ledger."""
        return rebuild.holds(self._store, log, offset)

    def refused(
        self, coordinates: Collection[Coordinates]
    ) -> Mapping[Coordinates, tuple[int, bytes]]:
        """See ports.Ledger."""
        found: dict[Coordinates, tuple[int, bytes]] = {}
        logs: dict[model.Log, list[int]] = {}
        for log_id, topic, partition, offset in coordinates:
            if 0 <= partition < 2**16 and 0 <= offset < 2**63:
                logs.setdefault(model.Log(log_id, topic, partition), []).append(offset)
        for log, offsets in logs.items():
            rows = self._store.query(
                "SELECT offset, toUnixTimestamp64Micro(arrival), digest FROM dispositions FINAL "  # noqa: S608 - our own text
                f"WHERE {_LOG} AND offset IN {{offsets:Array(UInt64)}} "
                "AND disposition IN ('parked', 'quarantined')",
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
        return [StoredRecord(*row) for row in rebuild.key_records(self._store)]

    def keep(self, records: Sequence[StoredRecord]) -> dict[tuple[Log, int], int]:
        """See keys_reader.RecordStore."""
        logs: dict[Log, list[StoredRecord]] = {}
        for record in records:
            logs.setdefault(record.log, []).append(record)
        for log, new in logs.items():
            messages = [(r.offset, r.arrival, r.key, r.value) for r in new]
            rebuild.add_key_records(self._store, log, messages)
        # Key records are few: reading all back tells who wrote first.
        return {(r.log, r.offset): r.arrival for r in self.load()}
