"""Bulk feeders wait for the pipeline, and send again what a broker without a disk forgot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealtrail_producer import CREATE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.producers.world import Seen, World

    from sealtrail_producer import Trail

TOPIC = "provenance.events"


def feed(world: World, trail: Trail, count: int):
    for number in range(count):
        trail.emit(f"e{number}", event_type=CREATE, attributes={"a": "b" * 1000})
    trail._core.intake.hurry()
    trail._core.flush_step()
    turn(world, trail)


def turn(world: World, trail: Trail, times: int = 5):
    for _ in range(times):
        world.clock.advance(0.2)
        trail._core.send_step()


def consume(world: World, trail: Trail, upto: int | None = None):
    partition = trail._core.identity.partition
    end = len(world.broker.log(TOPIC, partition))
    world.broker.committed[TOPIC, partition] = end if upto is None else upto


def sent(world: World):
    return sum(m.size for m in world.broker.messages())


def test_no_more_than_the_bound_waits_for_the_group(world: World, judged: Callable[[], Seen]):
    trail = world.open(batch_events=1, pace_bytes=10_000)
    feed(world, trail, 30)
    rounds = 0
    while len(world.broker.messages()) < 30:
        rounds += 1
        before = sent(world)
        turn(world, trail)
        assert sent(world) == before
        consume(world, trail)
        turn(world, trail)
        assert 0 < sent(world) - before <= 10_000
    assert rounds >= 3
    consume(world, trail)
    turn(world, trail)
    assert trail._core.spool.empty
    assert len(judged().events) == 30


def test_what_is_not_consumed_stays_in_the_spool(world: World):
    trail = world.open(batch_events=1, pace_bytes=1_000_000)
    feed(world, trail, 5)
    assert trail.flush(10)
    assert trail._core.spool.acked == -1
    consume(world, trail, 3)
    turn(world, trail)
    assert trail._core.spool.acked == 2


def test_a_log_that_begins_anew_gets_everything_unconsumed_again(
    world: World, judged: Callable[[], Seen]
):
    trail = world.open(batch_events=1, pace_bytes=1_000_000)
    feed(world, trail, 5)
    consume(world, trail, 2)
    turn(world, trail)
    world.broker.begin_anew()
    turn(world, trail, 20)
    assert len(world.broker.messages()) == 3
    consume(world, trail)
    turn(world, trail)
    assert trail._core.spool.empty
    seen = judged()
    assert [b.statement.batch_seq for b in seen.batches] == [2, 3, 4]


def test_a_log_that_began_anew_and_filled_quickly_is_seen_too(world: World):
    trail = world.open(batch_events=1, pace_bytes=1_000_000)
    feed(world, trail, 2)
    ours = world.broker.messages()
    world.broker.begin_anew()
    partition = trail._core.identity.partition
    world.broker.log(TOPIC, partition).extend([ours[0]] * 50)
    turn(world, trail, 20)
    assert world.broker.messages()[-2:] == ours


def test_a_backlog_of_others_counts(world: World):
    other = world.open()
    feed(world, other, 3)
    trail = world.open(batch_events=1, pace_bytes=2_000, partitions=4)
    partition = trail._core.identity.partition
    world.broker.log(TOPIC, partition).extend(world.broker.messages()[:1] * 40)
    before = len(world.broker.messages())
    feed(world, trail, 3)
    assert len(world.broker.messages()) == before
    world.broker.committed[TOPIC, partition] = 41
    turn(world, trail)
    assert len(world.broker.messages()) > before
