"""Partitions of the log on shards of the store: partition p is stored at shard p mod n, for ever.

The ports of a worker over several stores. What is about a partition goes to, and is read from, a
replica of its shard; questions that span partitions (a parent in another chain, the linker's) are
asked of a database that reads all shards (`cluster`). Pure routing: no SQL stands here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sealtrail_processor.store.port import StoreRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sealtrail_processor.judging.keeping import Spent
    from sealtrail_processor.judging.model import Flush, Log, Sink
    from sealtrail_processor.judging.ports import Coordinates, History, Ledger, Life, Stored
    from sealtrail_processor.judging.suspicion import Death
    from sealtrail_processor.store.port import Row, Store

T = TypeVar("T")


def shard_of(shards: Sequence[T], partition: int) -> T:
    """The shard that keeps a partition."""
    return shards[partition % len(shards)]


class ShardedSink:
    """`model.Sink`: a flush covers one partition, and goes whole to its shard."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    def write(self, flush: Flush) -> None:
        """See model.Sink."""
        shard_of(self._sinks, flush.log.partition).write(flush)

    def write_together(self, flushes: Sequence[Flush]) -> None:
        """See model.Sink. What one shard has taken is written there again alike."""
        for number, sink in enumerate(self._sinks):
            mine = [f for f in flushes if f.log.partition % len(self._sinks) == number]
            if mine:
                sink.write_together(mine)

    def write_lost(self, log: Log, first_offset: int, last_offset: int, arrival: int) -> None:
        """See model.Sink."""
        sink = shard_of(self._sinks, log.partition)
        sink.write_lost(log, first_offset, last_offset, arrival)


class ShardedLedger:
    """`ports.Ledger` over one ledger a shard."""

    def __init__(self, ledgers: Sequence[Ledger]) -> None:
        self._ledgers = ledgers

    def settle(self, partition: int) -> None:
        """See ports.Ledger."""
        shard_of(self._ledgers, partition).settle(partition)

    def cursor(self, log: Log) -> int | None:
        """See ports.Ledger."""
        return shard_of(self._ledgers, log.partition).cursor(log)

    def last_arrival(self, log: Log) -> int:
        """See ports.Ledger."""
        return shard_of(self._ledgers, log.partition).last_arrival(log)

    def lives(self, topic: str, partition: int) -> Sequence[Life]:
        """See ports.Ledger."""
        return shard_of(self._ledgers, partition).lives(topic, partition)

    def chains(self, topic: str, partition: int, most: int) -> Sequence[Stored]:
        """See ports.Ledger."""
        return shard_of(self._ledgers, partition).chains(topic, partition, most)

    def history(self, place: Log, lives: Sequence[Life], chain_ids: Collection[bytes]) -> History:
        """See ports.Ledger."""
        return shard_of(self._ledgers, place.partition).history(place, lives, chain_ids)

    def namesakes(
        self, place: Log, lives: Sequence[Life], chain_ids: Collection[bytes]
    ) -> set[bytes]:
        """See ports.Ledger."""
        return shard_of(self._ledgers, place.partition).namesakes(place, lives, chain_ids)

    def receipts(self, log: Log, offsets: Sequence[int], now: int) -> Mapping[int, int]:
        """See ports.Ledger."""
        return shard_of(self._ledgers, log.partition).receipts(log, offsets, now)

    def receipts_of(
        self, offsets: Mapping[Log, Sequence[int]], now: int
    ) -> Mapping[Log, Mapping[int, int]]:
        """See ports.Ledger."""
        found: dict[Log, Mapping[int, int]] = {}
        for number, ledger in enumerate(self._ledgers):
            mine = {
                log: wanted
                for log, wanted in offsets.items()
                if log.partition % len(self._ledgers) == number
            }
            if mine:
                found.update(ledger.receipts_of(mine, now))
        return found

    def spent(self, log: Log, end: int) -> Spent:
        """See ports.Ledger."""
        return shard_of(self._ledgers, log.partition).spent(log, end)

    def stored_hashes(
        self, place: Log, lives: Sequence[Life], keys: Collection[tuple[bytes, int]]
    ) -> Mapping[tuple[bytes, int], Sequence[tuple[bytes, int]]]:
        """See ports.Ledger."""
        return shard_of(self._ledgers, place.partition).stored_hashes(place, lives, keys)

    def deaths(self, log_id: str, topic: str) -> Sequence[Death]:
        """See ports.Ledger."""
        return [death for ledger in self._ledgers for death in ledger.deaths(log_id, topic)]

    def record_death(self, death: Death) -> None:
        """See ports.Ledger."""
        shard_of(self._ledgers, death.log.partition).record_death(death)

    def holds(self, log: Log, offset: int) -> bool:
        """See ports.Ledger."""
        return shard_of(self._ledgers, log.partition).holds(log, offset)

    def refused(
        self, coordinates: Collection[Coordinates]
    ) -> Mapping[Coordinates, tuple[int, bytes]]:
        """See ports.Ledger."""
        found: dict[Coordinates, tuple[int, bytes]] = {}
        for number, ledger in enumerate(self._ledgers):
            mine = [c for c in coordinates if c[2] % len(self._ledgers) == number]
            if mine:
                found.update(ledger.refused(mine))
        return found


class ShardedStore:
    """`store.Store` for what is beside the flushes: findings, verdicts, acts, and questions.

    Args:
        shards: a replica of each; rows with a column `partition` go to its shard, others to the
            first (their tables are copied everywhere).
        reading: reads all shards.
    """

    def __init__(self, shards: Sequence[Store], reading: Store) -> None:
        self._shards = shards
        self._reading = reading
        self.database = reading.database

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """See store.Store."""
        return self._reading.query(sql, parameters)

    def insert(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], token: str
    ) -> None:
        """See store.Store."""
        if "partition" not in columns:
            self._shards[0].insert(table, columns, rows, token)
            return
        at = columns.index("partition")
        for number, shard in enumerate(self._shards):
            mine = [row for row in rows if row[at] % len(self._shards) == number]
            if mine:
                shard.insert(table, columns, mine, token)

    def insert_packed(self, sql: str, columns: Mapping[str, str], rows: bytes, token: str) -> None:
        """See store.Store."""
        self._shards[0].insert_packed(sql, columns, rows, token)

    def insert_avro(self, sql: str, parts: list[bytes], token: str) -> None:
        """Refused: events go through `ShardedSink`, which knows their partition."""
        del sql, parts, token
        raise StoreRefused("events are written shard by shard", code=0)

    def command(self, sql: str) -> None:
        """See store.Store."""
        self._shards[0].command(sql)
