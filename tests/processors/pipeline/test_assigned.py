"""The worker around its partitions: taking over, giving away, and what runs beside the stream."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract import world
from tests.processors.pipeline.scenes import SECOND, raw

from sealtrail import ids
from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail.findings import Code
from sealtrail_processor.judging.keys_reader import KeysReader
from sealtrail_processor.judging.model import Log, RawMessage
from sealtrail_processor.judging.ports import LogChanged
from sealtrail_processor.judging.suspicion import Death, Suspicion
from sealtrail_processor.linking import heads
from sealtrail_processor.memory import (
    MemoryBroker,
    MemoryHeads,
    MemoryKeys,
    MemoryLedger,
    MemoryMarks,
    MemoryPublisher,
)
from sealtrail_processor.pipeline import watchdog
from sealtrail_processor.pipeline.upkeep import BUSY_S
from sealtrail_processor.pipeline.worker import EXIT_FAILED, Outside, Worker
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Rows:
    """A store that is asked little: remembers inserts, answers with nothing."""

    inserted: list[tuple[str, Any]] = field(default_factory=list)
    answers: dict[str, list[Any]] = field(default_factory=dict)

    def query(self, sql: str, parameters: Any = None) -> list[Any]:
        return next((rows for begin, rows in self.answers.items() if sql.startswith(begin)), [])

    def insert(self, table: str, columns: Any, rows: Any, token: str) -> None:
        self.inserted += [(table, dict(zip(columns, row, strict=True))) for row in rows]


class Left(Exception):  # noqa: N818 - what a test's worker does instead of ending the process
    pass


def leave(status: int) -> None:
    raise Left(status)


class House:
    """A worker over ports in memory, in one thread."""

    def __init__(self, **settings: Any) -> None:
        self.now = world.NOW + SECOND
        self.store, self.ledger, self.broker = Rows(), MemoryLedger(), MemoryBroker()
        self.publisher, self.topic = MemoryPublisher(), MemoryKeys()
        self.heads, self.heads_publisher = MemoryHeads(), MemoryPublisher()
        self.marks = MemoryMarks()
        self.wrong_tables = ""
        keys = KeysReader(
            world.directory(), self.topic, self.topic, lambda: "cluster-1", lambda: self.now
        )
        outside = Outside(
            self.store,  # type: ignore[arg-type] # what is asked of it here
            self.ledger,
            self.ledger,
            self.broker,  # type: ignore[arg-type] # the part of it that counts
            keys,
            self.publisher,
            self.heads,
            self.heads_publisher,
            self.marks,  # type: ignore[arg-type] # the part of it that counts
            self.check_tables,
            lambda: self.now,
            lambda: self.broker,
        )
        self.worker = Worker(WorkerSettings(**settings), outside, leave)
        self.generation = 1

    def wire(self, **outside: Any) -> None:
        """Another worker, which is wired to others."""
        self.worker.stop()
        self.worker = Worker(self.worker.settings, replace(self.worker.outside, **outside), leave)

    def assign(self) -> dict[int, int]:
        """What Faust asks for at the end of a rebalance, and sometimes within one."""
        return self.worker.assign(world.TOPIC, [1], self.generation)

    def process(self, messages: list[RawMessage]) -> bool:
        """Messages that were fetched now; whether they may be acknowledged."""
        return self.worker.process_together({1: messages}, self.generation) == {1}

    def check_tables(self) -> None:
        """As the store's own answer would be."""
        if self.wrong_tables:
            raise ConfigurationError(self.wrong_tables)

    def append(self, *values: bytes, at: int | None = None) -> list[RawMessage]:
        log = self.broker.logs.setdefault(1, [])
        first = len(log)
        log += [raw(first + i, value, at) for i, value in enumerate(values)]
        return log[first:]

    def assign_anew(self) -> dict[int, int]:
        """A rebalance that brings the partition back."""
        self.worker.revoke([1])
        assert not self.worker.status.ready
        self.generation += 1
        return self.assign()

    def leaves_as_stuck(self, lag: int) -> None:
        """At its second look the watchdog, without patience, sees that nothing has moved."""
        self.worker.upkeep.watchdog.patience_s = 0.0
        self.worker.upkeep.watch()
        assert self.worker.status.lag == lag
        with pytest.raises(Left) as left:
            self.worker.upkeep.watch()
        assert left.value.args == (EXIT_FAILED,)

    def waits_for_a_batch(self) -> None:
        """One of a chain has not come for a minute, though all is read."""
        producer = world.Producer()
        self.assign()
        first, _, third = producer.send(), producer.send(), producer.send()
        self.process(self.append(first, third))
        self.worker.status.lag = 0
        self.now += 60 * SECOND

    def look_around(self) -> None:
        """What the upkeep thread does at each turn, without its threads."""
        found, _ = self.worker.upkeep.look_around()
        self.worker.upkeep.tell(found)


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.worker.stop()


def test_it_takes_over_where_commits_end(house: House) -> None:
    producer = world.Producer()
    messages = house.append(producer.send(), producer.send())
    assert house.assign() == {1: 0}
    house.process(messages)
    assert house.worker.status.ready
    assert house.assign_anew() == {1: 2}, "wherever the group is"
    house.broker.group[1] = 2
    assert house.assign_anew() == {1: 2}


def test_what_no_broker_took_is_counted_though_nothing_else_is_offered(house: House) -> None:
    house.publisher.overdue = 3
    house.worker.upkeep.step()
    assert house.worker.metrics.registry.get_sample_value("sealtrail_undelivered") == 3


def test_tables_of_another_version_are_waited_for_when_the_store_was_away_at_the_start(
    house: House,
) -> None:
    house.wrong_tables = "the tables of the store are not those of this version"
    with pytest.raises(ConfigurationError):
        house.assign()
    assert not house.worker.status.ready
    house.wrong_tables = ""
    assert house.assign() == {1: 0}


def test_deaths_of_others_are_on_record_before_partitions_are_loaded(house: House) -> None:
    log = Log("cluster-1", world.TOPIC, 1)
    house.assign()
    house.process(house.append(world.Producer().send()))
    house.marks.dead = [Death(log, 0, 5, "WORK", "w-1"), Death(log, 2, 2, "WORK", "w-2")]
    house.assign_anew()
    assert house.worker.partitions[1].suspicion == Suspicion([(0, 5), (2, 2)], {2: 1})
    # The partition is kept over a rebalance, what is suspected is not.
    house.marks.dead = [Death(log, 2, 2, "FAULT", "w-3"), Death(log, 2, 2, "WAIT", "w-4")]
    before = house.worker.partitions[1].chains
    house.assign_anew()
    assert house.worker.partitions[1].chains is before
    assert house.worker.partitions[1].suspicion == Suspicion([(0, 5), *[(2, 2)] * 3], {2: 2})


def test_state_is_kept_over_a_rebalance_only_while_nobody_moved_on(house: House) -> None:
    producer = world.Producer()
    house.assign()
    before = house.worker.partitions[1].chains
    house.process(house.append(producer.send()))
    house.assign_anew()
    assert house.worker.partitions[1].chains is before

    house.append(producer.send())
    other = House()
    other.ledger, other.broker = house.ledger, house.broker
    other.worker = Worker(house.worker.settings, house.worker.outside, leave)
    other.assign()
    other.process(house.broker.logs[1])
    assert house.assign_anew() == {1: 2}
    assert house.worker.partitions[1].chains is not before


def test_what_was_taken_away_is_not_processed(house: House) -> None:
    house.assign()
    messages = house.append(world.Producer().send())
    house.worker.revoke([1])
    assert not house.process(messages)
    assert house.worker.process_together({7: messages}, house.generation) == set()
    assert house.ledger.flushes == []


def test_what_waits_behind_dropped_messages_is_dropped_with_them(house: House) -> None:
    producer = world.Producer()
    first, second = house.append(producer.send(), producer.send())
    house.assign()
    house.worker.revoke([1])
    assert not house.process([first])
    # Faust asks where to read in the middle of the rebalance, too.
    assert house.assign() == {1: 0}
    assert not house.worker.status.ready
    assert not house.process([second])
    before = house.worker.partitions[1]
    house.generation += 1
    assert house.assign() == {1: 0}
    # A lane that had the second in hand all the time has this partition in hand, too.
    assert not before.process([second])
    assert house.worker.process_together({1: [second]}, house.generation - 1) == set()
    assert house.ledger.flushes == []
    assert house.process([first, second])
    # Handed over twice: they are in the store.
    assert house.process([first, second])
    assert house.ledger.cursor(Log("cluster-1", world.TOPIC, 1)) == 2


def test_a_worker_reads_one_life_of_the_log_only(house: House) -> None:
    house.assign()
    fetched = house.append(world.Producer().send())
    house.broker.logs.clear()
    house.broker.cluster = "cluster-2"
    house.worker.revoke([1])
    # The group of a broker that began anew counts generations from 1, too.
    with pytest.raises(LogChanged):
        house.assign()
    with pytest.raises(LogChanged):
        house.process(fetched)
    assert house.ledger.flushes == []


def test_messages_judged_by_keys_that_came_right_before(house: House) -> None:
    identity = world.IDENTITY
    stranger = world.Producer(keys=(world.STRANGER,), identity=identity)
    house.assign()
    record = world.signed(world.key_record(world.STRANGER))
    house.topic.unread = [(0, RawMessage(0, b"k", record, (), 0, append_time=False))]
    house.process(house.append(stranger.send()))
    assert [j.disposition.value for j in house.ledger.judged()] == ["accepted"]


def test_gaps_become_rows_and_alerts_once(house: House) -> None:
    house.waits_for_a_batch()
    house.look_around()
    house.look_around()
    assert [(t, r["code"]) for t, r in house.store.inserted] == [("findings", "GAP")]
    assert len(house.publisher.sent) == 1


def test_other_workers_are_told_how_far_chains_have_come(house: House) -> None:
    producer = world.Producer()
    house.assign()
    house.process(house.append(producer.send(), producer.send()))
    assert house.publisher.sent == []
    [message] = house.heads_publisher.sent
    assert message.topic == house.worker.settings.heads_topic
    [head] = heads.unpack(message.value)
    [chain] = house.worker.partitions[1].chains.by_id.values()
    assert (head.prefix, head.next_seq) == (ids.chain_prefix(chain.chain_id), chain.next_seq)
    house.heads.there = False
    house.process(house.append(producer.send()))
    assert len(house.heads_publisher.sent) == 1


def test_a_gap_that_another_worker_told_of_is_not_told_again(house: House) -> None:
    house.waits_for_a_batch()
    house.look_around()
    [(_, told)] = house.store.inserted

    heir = House()
    heir.ledger, heir.broker, heir.now = house.ledger, house.broker, house.now
    heir.wire(ledger=house.ledger, broker=house.broker)
    heir.store.answers = {"SELECT finding_id FROM findings": [(told["finding_id"],)]}
    heir.assign()
    heir.worker.status.lag = 0
    heir.look_around()
    assert heir.worker.partitions[1].chains.by_id
    assert heir.store.inserted == []


def test_nobody_is_called_silent_for_the_time_that_the_broker_was_away(house: House) -> None:
    house.assign()
    house.process(house.append(world.Producer().send()))
    house.worker.upkeep.watch()
    house.look_around()
    house.broker.away = True
    house.now += 3600 * SECOND
    with pytest.raises(UnavailableError):
        house.look_around()
    assert house.worker.status.lag is None
    house.broker.away = False
    # What was spooled meanwhile is still on its way.
    house.look_around()
    house.worker.upkeep.watch()
    house.look_around()
    assert house.store.inserted == []
    house.now += 121 * SECOND
    house.look_around()
    assert [row["code"] for _, row in house.store.inserted] == ["STALLED_CHAIN"]


def test_another_broker_is_noticed_without_messages(house: House) -> None:
    house.assign()
    house.broker.cluster = "cluster-2"
    with pytest.raises(UnavailableError):
        house.look_around()


def test_a_stuck_worker_leaves(house: House) -> None:
    house = House(session_timeout_s=6, watchdog_margin_s=0.001)
    house.append(world.Producer().send())
    house.leaves_as_stuck(lag=1)


def test_a_log_that_dropped_all_that_was_unread_brings_no_message_to_show_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker stands before a gap with nothing behind it: it leaves, and the next says LOST."""
    monkeypatch.setattr(watchdog, "GRACE_S", 0.0)
    producer = world.Producer()
    house.assign()
    house.process(house.append(producer.send()))
    house.append(producer.send(), producer.send())
    house.broker.logs[1].clear()
    house.broker.starts[1] = 3
    house.leaves_as_stuck(lag=2)
    following = Worker(house.worker.settings, house.worker.outside, leave)
    assert following.assign(world.TOPIC, [1], house.generation) == {1: 3}
    assert [(first, last) for _, first, last in house.ledger.lost] == [(1, 2)]
    following.stop()


def test_a_slow_store_is_not_a_stuck_worker() -> None:
    house = House(session_timeout_s=6, watchdog_margin_s=0.001)
    house.append(world.Producer().send())
    house.worker.upkeep.watchdog.patience_s = 0.0
    house.worker.status.busy_since = time.monotonic()
    house.worker.upkeep.watch()
    house.worker.upkeep.watch()
    house.worker.status.busy_since = time.monotonic() - BUSY_S
    with pytest.raises(Left):
        house.worker.upkeep.watch()


def test_threads_start_and_stop(house: House) -> None:
    house.worker.start()
    house.worker.in_flush_thread(house.assign).result(10)
    messages = house.append(world.Producer().send())
    house.worker.in_lane({1: messages}, house.generation).result(10)
    house.worker.stop()
    assert house.worker.status.stopping
    assert [j.disposition.value for j in house.ledger.judged()] == ["accepted"]


def test_what_a_chain_has_no_room_for_waits_in_quarantine_and_is_counted() -> None:
    house = House(chain_gaps_max=1, chain_branches_max=1)
    house.assign()
    producer = world.Producer()
    sent = [producer.send() for _ in range(5)]
    twins = [world.Producer() for _ in range(3)]
    # The same chain three times more: a batch of other events each, for one place.
    forks = [twin.send(4 + n) for n, twin in enumerate(twins)]
    house.process(house.append(sent[0], sent[2], sent[4], *forks, at=world.NOW))
    became = [(j.disposition.value, j.refused and j.refused.code) for j in house.ledger.judged()]
    assert became == [
        *[("accepted", None)] * 2,
        ("quarantined", Code.GAP),
        ("accepted", None),
        *[("quarantined", Code.FORK)] * 2,
    ]
    # A place in the gap is room for what comes after: sent again, it is taken.
    house.process(house.append(sent[1], sent[4], at=world.NOW))
    assert [j.disposition.value for j in house.ledger.judged()[6:]] == ["accepted"] * 2
    house.worker.upkeep.step()
    sample = house.worker.metrics.registry.get_sample_value
    assert sample("sealtrail_chain_gaps") == 1
    assert sample("sealtrail_chain_branches") == 1
    assert sample("sealtrail_chain_hashes") == 5
    assert sample("sealtrail_chain_full_total", {"code": "GAP"}) == 1
    assert sample("sealtrail_chain_full_total", {"code": "FORK"}) == 2
    house.worker.stop()


def test_chains_that_leave_memory_and_come_back_are_counted() -> None:
    house = House(chains_max=1)
    house.assign()
    values = [world.Producer(nonce=world.digest(name)).send(close=True) for name in ("a", "b")]
    house.process(house.append(*values, at=world.NOW))
    house.worker.upkeep.step()
    [held] = house.worker.partitions[1].chains.by_id
    house.process(house.append(*values, at=world.NOW))
    assert [j.disposition.value for j in house.ledger.judged()[2:]] == ["duplicate"] * 2
    assert house.worker.partitions[1].chains.by_id.keys() > {held}
    house.worker.upkeep.step()
    sample = house.worker.metrics.registry.get_sample_value
    assert sample("sealtrail_chains_recalled_total") == 1
    assert sample("sealtrail_chains_evicted_total", {"watched": "no"}) == 2
    assert sample("sealtrail_chains_evicted_total", {"watched": "yes"}) == 0
    assert sample("sealtrail_chains") == 1
    house.worker.stop()
    anew = House(chains_max=1)
    anew.ledger, anew.broker = house.ledger, house.broker
    anew.wire(ledger=house.ledger, broker=house.broker)
    assert anew.assign() == {1: 4}
    assert len(anew.worker.partitions[1].chains.by_id) == 1
    assert anew.worker.partitions[1].chains.partial
    anew.worker.stop()
