"""Several partitions in one commit, and the lanes that feed them."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract import world
from tests.processors.pipeline.scenes import SECOND, Scene, raw

from sealtrail.errors import UnavailableError
from sealtrail.validate import Place
from sealtrail_processor.judging.clock import Tolerances
from sealtrail_processor.judging.judge import Rules
from sealtrail_processor.judging.model import Log
from sealtrail_processor.pipeline.cutting import Caps
from sealtrail_processor.pipeline.lane import Lane
from sealtrail_processor.pipeline.partition import Partition
from sealtrail_processor.pipeline.together import Together
from sealtrail_processor.reporting.metrics import Busy, Status
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    from sealtrail_processor.pipeline.together import Work


def at_once(work: Any, *args: Any) -> Future[None]:
    done: Future[None] = Future()
    try:
        done.set_result(work(*args))
    except BaseException as error:  # noqa: BLE001 - what a thread's future does
        done.set_exception(error)
    return done


class Pair:
    """Two partitions of one broker on one store, and what processes them together."""

    def __init__(self, caps: Caps | None = None) -> None:
        self.scene = Scene(caps=caps or Caps(1000, 2**24))
        first = self.scene.partition()
        place = Place("local", frozenset({"default"}), world.TOPIC, 2)
        log = Log(self.scene.broker.cluster, world.TOPIC, 2)
        rules = Rules(place, Tolerances(), 30 * SECOND)
        self.parts = [first, Partition(log, first.ports, rules, self.scene.caps)]
        self.makers = [world.Producer(), self.other()]
        self.together = Together(
            self.scene.ledger,
            self.scene.ledger,
            lambda: self.scene.now,
            lambda: None,
            at_once,
            self.scene.mark,
        )

    @staticmethod
    def other() -> world.Producer:
        return world.Producer(identity=replace(world.IDENTITY, partition=2, instance="orders-2"))

    def work(self, count: int) -> Work:
        for maker, number in zip(self.makers, (1, 2), strict=True):
            log = self.scene.broker.logs.setdefault(number, [])
            log += [raw(len(log) + i, maker.send()) for i in range(count)]
        return [
            (part, self.scene.broker.logs[number][part.next_offset :])
            for part, number in zip(self.parts, (1, 2), strict=True)
        ]


def ends(pair: Pair) -> list[tuple[int, int, int]]:
    return [(f.log.partition, f.first_offset, f.last_offset) for f in pair.scene.ledger.flushes]


def test_partitions_are_committed_each_by_itself_and_go_on() -> None:
    pair = Pair()
    assert pair.together.process(pair.work(2)) == {1, 2}
    assert pair.together.process(pair.work(1)) == {1, 2}
    assert ends(pair) == [(1, 0, 1), (2, 0, 1), (1, 2, 2), (2, 2, 2)]
    assert pair.scene.dispositions() == ["accepted"] * 6
    assert not any(part.lock.locked() for part in pair.parts)


def test_a_failed_commit_leaves_all_partitions_as_they_were() -> None:
    pair = Pair()
    work = pair.work(2)
    pair.scene.ledger.failures = 1
    with pytest.raises(UnavailableError):
        pair.together.process(work)
    assert [p.next_offset for p in pair.parts] == [0, 0]
    assert not any(p.chains.by_id or p.lock.locked() for p in pair.parts)
    pair.together.process(work)
    assert pair.scene.dispositions() == ["accepted"] * 4


def test_data_that_the_store_refuses_cost_their_message_alone() -> None:
    pair = Pair()
    pair.scene.ledger.broken = {1}
    assert pair.together.process(pair.work(3)) == {1, 2}
    assert pair.scene.dispositions() == ["accepted", "quarantined", "accepted"] * 2
    assert ends(pair) == [(1, 0, 2), (2, 0, 2)]


def test_messages_that_are_more_than_a_flush_are_committed_in_several() -> None:
    pair = Pair(caps=Caps(events=1, bytes=2**24))
    pair.together.process(pair.work(3))
    assert len(pair.scene.ledger.flushes) > 2
    assert pair.scene.dispositions() == ["accepted"] * 6


def test_a_partition_that_was_taken_away_is_left_alone() -> None:
    pair = Pair()
    pair.parts[1].closed = True
    assert pair.together.process(pair.work(2)) == {1}
    assert ends(pair) == [(1, 0, 1)]


def test_records_that_were_there_before_the_messages_count_before_they_arrive() -> None:
    pair = Pair()
    scene, before = pair.scene, pair.scene.now

    def refresh() -> None:
        scene.now += SECOND  # What is read then counts from then on.

    together = Together(scene.ledger, scene.ledger, lambda: scene.now, refresh, at_once, scene.mark)
    together.process(pair.work(1))
    assert [j.arrival for j in scene.ledger.judged()] == [before + SECOND] * 2


def event(value: bytes) -> Any:
    return SimpleNamespace(message=SimpleNamespace(value=value))


async def test_a_lane_waits_for_company_and_not_for_ever() -> None:
    lane = Lane(WorkerSettings(flush_messages=3, flush_wait_s=0.1))
    for value in (b"a", b"b", b"c"):
        await lane.put(event(value))
    began = time.monotonic()
    assert [e.message.value for e in await lane.take()] == [b"a", b"b", b"c"]
    assert time.monotonic() - began < 0.1
    await lane.put(event(b"d"))
    assert [e.message.value for e in await lane.take()] == [b"d"]


async def test_a_lane_takes_no_more_than_a_flush_and_holds_back_who_brings_more() -> None:
    lane = Lane(WorkerSettings(flush_bytes=2**16, flush_wait_s=10))
    large = event(bytes(2**15))
    await lane.put(large)
    await lane.put(large)
    more = asyncio.ensure_future(lane.put(large))
    await asyncio.sleep(0.02)
    assert not more.done()
    assert len(await lane.take()) == 2
    await asyncio.wait_for(more, 1)


async def test_a_message_in_an_empty_lane_begins_the_wait() -> None:
    lane = Lane(WorkerSettings(flush_wait_s=0.05))
    taken = asyncio.ensure_future(lane.take())
    await asyncio.sleep(0.08)
    assert not taken.done()
    await lane.put(event(b"x"))
    assert len(await asyncio.wait_for(taken, 5)) == 1


def test_busy_since_the_longest() -> None:
    status = Status()
    with Busy(status):
        assert status.busy_since is not None
    assert status.busy_since is None
