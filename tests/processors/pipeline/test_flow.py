"""Faust hands messages over once it was told where to read, and acknowledges what is committed."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CoordinatorLoadInProgressError
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from sealtrail_processor.kafka import consuming
from sealtrail_processor.pipeline.app import _raw, _until_committed, build_app
from sealtrail_processor.pipeline.member import FETCH_WAIT_MS
from sealtrail_processor.pipeline.worker import EXIT_FAILED
from sealtrail_processor.reporting.metrics import Status
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import faust

TOPIC = WorkerSettings().topic


class Worker:
    """Knows where to read; as soon as it is asked, or when it is let."""

    def __init__(self) -> None:
        self.status = Status()
        self.asked: list[tuple[list[int], int]] = []
        self.answer: Future[dict[int, int]] | None = None
        self.committed: set[int] = set()
        self.left: list[int] = []

    def leave(self, status: int) -> None:
        self.left.append(status)

    def revoke(self, numbers: Any) -> None:
        """Nothing to close here."""

    def in_flush_thread(self, _: Any, topic: str, numbers: list[int], generation: int) -> Any:
        self.asked.append((numbers, generation))
        done: Future[dict[int, int]] = Future()
        done.set_result(dict.fromkeys(numbers, 7))
        return self.answer or done

    def assign(self) -> None:
        """Only its name is used."""

    def in_lane(self, groups: dict[int, Any], _: int) -> Future[set[int]]:
        """Messages of partitions that were taken away are dropped."""
        done: Future[set[int]] = Future()
        done.set_result(self.committed & set(groups))
        return done


class Event:
    """What the stream hands over."""

    def __init__(self, message: Any) -> None:
        self.message = message


class Broker:
    """The consumer of a real application, with the connection taken away."""

    def __init__(self, app: faust.App, worker: Worker) -> None:
        self.app, self.worker = app, worker
        self.consumer: Any = cast("Any", app.consumer)
        self.assigned: frozenset[TP] = frozenset({TP(TOPIC, 0), TP(TOPIC, 1)})
        self.sought: list[dict[Any, int]] = []
        self.consumer._on_partitions_revoked = self._nothing
        self.consumer._on_partitions_assigned = self._nothing
        self.consumer.assignment = lambda: self.assigned
        self.consumer.seek_wait = self._seek_wait
        self.consumer._commit = self._commit
        # As it is once the agent has subscribed.
        topics: Any = app.topics
        topics.acks_enabled_for = lambda _: True
        self.group: dict[TP, int] = {}

    async def _nothing(self, *_: Any) -> None:
        """What Faust does beside the consumer."""

    async def _seek_wait(self, offsets: dict[Any, int]) -> None:
        self.sought.append(offsets)

    async def _commit(self, offsets: dict[TP, int]) -> bool:
        assert offsets, "aiokafka refuses to commit nothing"
        self.group |= offsets
        return True

    async def revoke(self) -> None:
        await self.consumer.on_partitions_revoked(set(self.assigned))

    async def assign(self, generation: int) -> None:
        self.app.consumer_generation_id = generation
        await self.consumer.on_partitions_assigned(set(self.assigned), generation)

    async def resume(self) -> None:
        """The end of a rebalance, as Faust's recovery has it."""
        await self.consumer.perform_seek()
        self.consumer.resume_flow()

    def fetched(self, generation: int, *offsets: int) -> list[Event]:
        """Messages of partition 0."""
        at = TP(TOPIC, 0)
        made = (
            ConsumerMessage(
                TOPIC, 0, offset, 1.0, 1, [], None, b"", None, tp=at, generation_id=generation
            )
            for offset in offsets
        )
        return [Event(message) for message in made]

    async def settle(self, events: list[Event], generation: int) -> dict[TP, int]:
        """What a lane does with its messages; what the group is told then."""
        worker: Any = self.worker

        async def commit(groups: Any) -> Any:
            return await _until_committed(self.app, worker, generation, groups)

        async def acknowledge(event: Event) -> None:
            self.consumer.ack(event.message)

        assert await consuming.settle(events, generation, _raw, commit, acknowledge)
        await self.consumer.commit()
        return self.group

    def flows(self) -> bool:
        """Whether messages may come."""
        return bool(self.consumer.flow_active)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    worker: Any = Worker()
    made = Broker(build_app(WorkerSettings(state_dir=tmp_path), worker), worker)
    yield made
    made.consumer._thread.thread_loop.close()


async def test_messages_flow_once_it_was_told_where_to_read(broker: Broker) -> None:
    await broker.revoke()
    await broker.assign(1)
    assert not broker.flows()
    await broker.resume()
    assert broker.flows()
    assert [sorted(o.values()) for o in broker.sought] == [[7, 7]]
    assert broker.group == broker.sought[0], "what is committed is acknowledged"
    await broker.revoke()
    assert not broker.flows()


async def test_who_had_nothing_does_not_flow_on_when_it_gets_something(broker: Broker) -> None:
    broker.assigned, given = frozenset(), broker.assigned
    await broker.assign(1)
    broker.consumer.resume_flow()
    broker.assigned = given
    await broker.assign(2)
    assert not broker.flows()
    await broker.resume()
    assert broker.flows()


async def test_within_a_rebalance_nothing_is_loaded_sought_or_resumed(broker: Broker) -> None:
    await broker.assign(1)
    await broker.resume()
    await broker.revoke()
    # Faust asks when it has fetched something for which there is no use.
    await broker.resume()
    assert not broker.flows()
    assert len(broker.worker.asked) == len(broker.sought) == 1
    await broker.assign(2)
    await broker.resume()
    assert broker.flows()
    assert [generation for _, generation in broker.worker.asked] == [1, 2]


@pytest.mark.parametrize("generation", [3, 1])
async def test_a_generation_that_comes_again_ends_the_worker(
    broker: Broker, generation: int
) -> None:
    for given in (2, 3):
        await broker.assign(given)
        await broker.resume()
        await broker.revoke()
    assert broker.worker.left == []
    # To a member that joins again without need, and of a broker that began anew.
    await broker.assign(generation)
    assert broker.worker.left == [EXIT_FAILED]


async def test_a_seek_of_the_rebalance_before_resumes_nothing(broker: Broker) -> None:
    await broker.assign(1)
    broker.worker.answer = Future()
    late = asyncio.ensure_future(broker.resume())
    await asyncio.sleep(0)
    await broker.revoke()
    await broker.assign(2)
    broker.worker.answer.set_result({0: 3, 1: 3})
    await late
    assert not broker.flows()
    broker.worker.answer = None
    await broker.resume()
    assert broker.flows()


async def test_where_nothing_is_committed_nothing_is_acknowledged(broker: Broker) -> None:
    broker.worker.answer = Future()
    broker.worker.answer.set_result({0: 0, 1: 0})
    await broker.assign(1)
    await broker.resume()
    assert broker.flows()
    assert broker.group == {}


async def test_what_is_committed_is_acknowledged(broker: Broker) -> None:
    await broker.assign(1)
    await broker.resume()
    broker.worker.committed = {0}
    assert await broker.settle(broker.fetched(1, 7, 8), 1) == {TP(TOPIC, 0): 9, TP(TOPIC, 1): 7}


async def test_what_was_fetched_before_a_rebalance_is_not_acknowledged(broker: Broker) -> None:
    await broker.assign(1)
    await broker.resume()
    events = broker.fetched(1, 7, 8)
    await broker.revoke()
    await broker.assign(2)
    await broker.resume()
    broker.worker.committed = {0}
    # A lane that waited for the store comes to them now, or tries them again.
    assert set((await broker.settle(events, 2)).values()) == {7}
    broker.worker.committed = set()
    assert set((await broker.settle(events, 1)).values()) == {7}
    broker.worker.committed = {0}
    assert (await broker.settle(broker.fetched(2, 7, 8), 2))[TP(TOPIC, 0)] == 9


async def test_what_is_taken_away_meanwhile_is_not_acknowledged(broker: Broker) -> None:
    await broker.assign(1)
    await broker.resume()
    await broker.revoke()
    # Dropped, in the same generation: it is acknowledged to nobody, then or after the rebalance.
    assert set((await broker.settle(broker.fetched(1, 7, 8), 1)).values()) == {7}
    await broker.assign(2)
    await broker.consumer.commit()
    await broker.resume()
    assert set((await broker.settle([], 2)).values()) == {7}


class Member:
    """What the consumer's thread has of the group: notes commits, and when they were sent."""

    def __init__(self, consumer: Any) -> None:
        self.thread = consumer._thread
        self.state = "stable"
        self.sent: list[tuple[str, dict[Any, Any]]] = []
        self.thread._ensure_consumer = lambda: self
        self.thread.consumer = self
        self.thread.assignment = lambda: {TP(TOPIC, 0)}

    async def commit(self, offsets: dict[Any, Any]) -> None:
        self.sent.append((self.state, {tp.partition: o.offset for tp, o in offsets.items()}))

    async def threadsafe_partitions_revoked(self, *_: Any) -> None:
        self.state = "handing over"
        await self.thread._commit({TP(TOPIC, 0): 5})

    async def threadsafe_partitions_assigned(self, *_: Any) -> None:
        self.state = "told"
        await self.thread._commit({TP(TOPIC, 0): 7})


async def test_a_member_that_joins_commits_nothing(broker: Broker) -> None:
    member = Member(broker.consumer)
    assert await member.thread._commit({TP(TOPIC, 0): 4})
    await member.thread.on_partitions_revoked({TP(TOPIC, 0)})
    member.state = "joining"
    # It would reach the group behind JoinGroup, and have this member join again, and again.
    assert not await member.thread._commit({TP(TOPIC, 0): 6})
    await member.thread.on_partitions_assigned({TP(TOPIC, 0)}, 2)
    assert member.sent == [("stable", {0: 4}), ("handing over", {0: 5}), ("told", {0: 7})]


async def test_a_partition_does_not_wait_long_for_those_without_messages(broker: Broker) -> None:
    reader = broker.consumer._thread._create_worker_consumer(broker.consumer.transport)
    other = AIOKafkaConsumer(fetch_max_wait_ms=7)
    try:
        # aiokafka's own name for it, which its fetcher is made with.
        assert (other._fetch_max_wait_ms, reader._fetch_max_wait_ms) == (7, FETCH_WAIT_MS)
    finally:
        await reader.stop()
        await other.stop()


class Refusing(GroupCoordinator):  # type: ignore[misc]
    """A member's coordination, by itself, whose first attempts to join are refused."""

    def __init__(self, refusals: int) -> None:
        client: Any = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
        subscription = SubscriptionState()
        subscription.subscribe({TOPIC})
        # As the fetcher does.
        subscription.register_fetch_waiters(set())
        self.refusals, self.joined = refusals, asyncio.Event()
        super().__init__(client, subscription, assignors=(RoundRobinPartitionAssignor,))

    async def ensure_coordinator_known(self) -> None:
        """It is."""

    async def ensure_active_group(self, *_: Any) -> None:
        if self.refusals:
            self.refusals -= 1
            raise CoordinatorLoadInProgressError
        self.joined.set()
        await self._closing


async def test_a_member_that_was_refused_tries_again(broker: Broker) -> None:
    refusing = Refusing(2)
    thread = broker.consumer._thread
    for _ in range(2):
        await asyncio.sleep(0.01)
        # Neither by itself, nor by what Faust does.
        assert not refusing.joined.is_set()
        thread.heed(refusing)
        assert "GroupLoadInProgressError" in broker.worker.status.waiting
    await asyncio.wait_for(refusing.joined.wait(), 5)
    thread.heed(refusing)
    assert broker.worker.left == []
    await refusing.close()


async def test_a_worker_leaves_when_coordination_has_ended(broker: Broker) -> None:
    refusing = Refusing(0)

    async def wrong(*_: Any) -> None:
        raise ZeroDivisionError

    refusing.ensure_active_group = wrong  # type: ignore[method-assign]
    await asyncio.wait([refusing._coordination_task])
    broker.consumer._thread.heed(refusing)
    assert broker.worker.left == [EXIT_FAILED]
