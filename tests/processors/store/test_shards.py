"""A partition's rows go to its shard and are read from there."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.processors.store.making import Maker

from sealtrail_processor.judging.model import Flush, Log
from sealtrail_processor.judging.suspicion import Death
from sealtrail_processor.memory import MemoryLedger
from sealtrail_processor.store.ledger import REBUILT_FROM, StoreLedger
from sealtrail_processor.store.port import StoreRefused
from sealtrail_processor.store.shards import ShardedLedger, ShardedSink, ShardedStore

LOGS = [Log("log", "topic", number) for number in range(5)]


class Notes:
    """A store that writes down what it is told."""

    def __init__(self, database: str = "sealtrail") -> None:
        self.database = database
        self.told: list[tuple[Any, ...]] = []

    def query(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        self.told.append(("query", sql))
        return []

    def insert(self, table: str, columns: Sequence[str], rows: Any, token: str) -> None:
        self.told.append(("insert", table, list(rows), token))

    def insert_packed(self, sql: str, columns: Mapping[str, str], rows: bytes, token: str) -> None:
        assert columns == {"child": "UInt64"}
        self.told.append(("packed", sql, rows, token))

    def insert_avro(self, sql: str, parts: list[bytes], token: str) -> None:
        self.told.append(("avro",))

    def command(self, sql: str) -> None:
        self.told.append(("command", sql))


def flush(log: Log) -> Flush:
    maker = Maker(log, seed=log.partition)
    return maker.flush(maker.accept(2))


def test_each_flush_goes_to_one_shard_and_its_cursor_is_there():
    shards = [MemoryLedger(), MemoryLedger()]
    sink, ledger = ShardedSink(shards), ShardedLedger(shards)
    for log in LOGS:
        sink.write(flush(log))
    sink.write_lost(LOGS[1], 50, 60, 1)
    assert [[f.log.partition for f in shard.flushes] for shard in shards] == [[0, 2, 4], [1, 3]]
    assert shards[1].lost == [(LOGS[1], 50, 60)]
    assert not shards[0].lost
    for log in LOGS:
        assert ledger.cursor(log) == shards[log.partition % 2].cursor(log)
        lives = ledger.lives(log.topic, log.partition)
        [chain] = ledger.chains(log.topic, log.partition, 9)
        assert list(ledger.history(log, lives, {chain.chain_id}).links)
        assert ledger.namesakes(log, lives, {chain.chain_id}) == {chain.chain_id}
        assert ledger.last_arrival(log) > 0
        assert ledger.receipts(log, [7], 99) == {7: 99}
        assert (log, 7) in shards[log.partition % 2].first_seen


def test_hashes_are_found_wherever_the_chain_is():
    shards = [MemoryLedger(), MemoryLedger()]
    sink, ledger = ShardedSink(shards), ShardedLedger(shards)
    flushes = [flush(log) for log in LOGS[:2]]
    for item in flushes:
        sink.write(item)
    statements = [item.judged[0].batch.statement for item in flushes]
    keys = {(s.chain_id, s.batch_seq) for s in statements}
    found = set[tuple[bytes, int]]()
    for log in LOGS[:2]:
        found.update(ledger.stored_hashes(log, ledger.lives(log.topic, log.partition), keys))
    assert found == keys
    assert ledger.stored_hashes(LOGS[0], [], keys) == {}


def test_refused_messages_are_asked_of_their_shard():
    class Asked(MemoryLedger):
        def refused(self, coordinates: Any) -> Any:
            return dict.fromkeys(coordinates, (1, b""))

    first, second = Asked(), Asked()
    asked = [("log", "topic", number, 9) for number in range(3)]
    assert set(ShardedLedger([first, second]).refused(asked)) == set(asked)


def test_rows_with_a_partition_go_to_its_shard_and_questions_to_all():
    shards, reading = [Notes(), Notes()], Notes("sealtrail_all")
    store = ShardedStore(shards, reading)
    store.insert("findings", ("code", "partition"), [("GAP", 0), ("GAP", 1), ("GAP", 2)], "t")
    store.insert("migrations", ("version",), [(1,)], "u")
    store.insert_packed("INSERT", {"child": "UInt64"}, b"packed", "v")
    store.query("SELECT 1")
    store.command("SELECT 2")
    assert shards[0].told == [
        ("insert", "findings", [("GAP", 0), ("GAP", 2)], "t"),
        ("insert", "migrations", [(1,)], "u"),
        ("packed", "INSERT", b"packed", "v"),
        ("command", "SELECT 2"),
    ]
    assert shards[1].told == [("insert", "findings", [("GAP", 1)], "t")]
    assert reading.told == [("query", "SELECT 1")]
    assert store.database == "sealtrail_all"
    with pytest.raises(StoreRefused, match="shard by shard"):
        store.insert_avro("INSERT", [], "t")


def test_a_replica_catches_up_before_it_is_read():
    single, replica = Notes(), Notes()
    StoreLedger(single).settle(3)
    ShardedLedger([StoreLedger(replica, replicated=True)]).settle(3)
    assert single.told == []
    wanted = [("command", f"SYSTEM SYNC REPLICA sealtrail.{name}") for name in REBUILT_FROM]
    assert replica.told == wanted


def test_deaths_are_kept_with_the_partition():
    shards = [MemoryLedger(), MemoryLedger()]
    ledger = ShardedLedger(shards)
    death = Death(LOGS[3], 5, 5, "WORK", "mark")
    ledger.record_death(death)
    log = LOGS[3]
    assert list(ledger.deaths(log.log_id, log.topic)) == [death]
    assert shards[0].deaths(log.log_id, log.topic) == []
    assert shards[1].deaths(log.log_id, log.topic) == [death]
    assert ledger.holds(LOGS[3], 5) == shards[1].holds(LOGS[3], 5)
