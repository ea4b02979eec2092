"""The way of messages through a partition: the store's cursor decides, whatever comes in."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.contract import world
from tests.processors.pipeline.scenes import SECOND, Scene, raw

from sealtrail.errors import UnavailableError
from sealtrail_processor.judging.model import BoundaryBroken
from sealtrail_processor.judging.ports import LogChanged, SkippedMessages, Stored
from sealtrail_processor.memory import MemoryBroker
from sealtrail_processor.pipeline.cutting import Caps

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_commits_are_contiguous_and_restarts_go_on() -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(producer.send(), producer.send())
    scene.run()
    scene.append(producer.send())
    scene.run()
    assert [(f.first_offset, f.last_offset) for f in scene.ledger.flushes] == [(0, 1), (2, 2)]
    assert scene.dispositions() == ["accepted"] * 3
    assert scene.told == scene.ledger.flushes


def test_a_message_handed_over_twice_is_skipped() -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(producer.send(), producer.send())
    partition = scene.run()
    partition.process(scene.broker.logs[1])
    assert len(scene.ledger.flushes) == 1


@pytest.mark.parametrize("order", [(0, 1, 2, 0, 1, 2, 3), (2, 3, 0, 1, 2, 3), (0, 0, 1, 2, 3)])
def test_one_that_comes_twice_in_one_take_is_judged_once(order: tuple[int, ...]) -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(*(producer.send() for _ in range(4)))
    scene.partition().process([scene.broker.logs[1][offset] for offset in order])
    assert scene.dispositions() == ["accepted"] * 4
    assert [(f.first_offset, f.last_offset) for f in scene.ledger.flushes] == [(0, 3)]


def test_a_failed_write_changes_nothing_and_is_done_again() -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(producer.send(), producer.send())
    partition = scene.partition()
    scene.ledger.failures = 1
    with pytest.raises(UnavailableError):
        scene.run(partition)
    assert partition.next_offset == 0
    assert not partition.chains.by_id
    scene.run(partition)
    assert scene.dispositions() == ["accepted"] * 2


def test_what_a_crash_left_is_judged_alike_by_the_next_worker() -> None:
    producer = world.Producer()
    values = [producer.send(), producer.send(), producer.heartbeat(), b"nonsense"]
    scenes = []
    for failures in (0, 1):
        scene = Scene()
        scene.append(*values)
        scene.ledger.failures = failures
        if failures:
            with pytest.raises(UnavailableError):
                scene.run()
            scene.now += 3600 * SECOND  # a later worker, whose clock counts no more
        scene.run()
        scenes.append(scene.ledger.flushes)
    assert scenes[0] == scenes[1]


def test_who_is_replaced_may_commit_while_its_heir_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(producer.send(), producer.send())
    frozen = scene.partition()
    real = scene.ledger.chains

    def chains(topic: str, partition: int, most: int) -> "Sequence[Stored]":
        # Between the heir's questions for the cursor and for the chains.
        scene.run(frozen)
        return real(topic, partition, most)

    monkeypatch.setattr(scene.ledger, "chains", chains)
    heir = scene.partition()
    assert heir.next_offset == 2
    scene.append(producer.send())
    scene.run(heir)
    assert scene.dispositions() == ["accepted"] * 3, "none a duplicate of itself"


def test_broken_boundaries_are_judged_again_without_the_offender() -> None:
    producer, other = world.Producer(), world.Producer(nonce=world.digest("other"))
    scene = Scene()
    scene.append(producer.send(), other.send(), producer.send())
    scene.ledger.broken = {1}
    scene.run()
    assert scene.dispositions() == ["accepted", "quarantined", "accepted"]
    assert scene.codes() == ["BAD_EVENT"]


def test_a_sink_that_names_the_same_offenders_again_is_not_asked_for_ever() -> None:
    class Stubborn:
        def write(self, flush: object) -> None:
            raise BoundaryBroken([0])

    scene = Scene()
    scene.append(world.Producer().send())
    partition = scene.partition()
    partition.ports = replace(partition.ports, sink=Stubborn())  # type: ignore[arg-type] # refuses all
    with pytest.raises(BoundaryBroken):
        scene.run(partition)


def test_arrival_never_goes_back() -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(producer.send(), at=world.NOW + 5 * SECOND)
    scene.append(producer.send(), at=world.NOW + 4 * SECOND)
    scene.run()
    arrivals = [(j.arrival, j.time_source) for j in scene.ledger.judged()]
    assert arrivals == [(world.NOW + 5 * SECOND, "LOG_APPEND")] * 2


def test_receipts_count_from_the_first_time_that_a_message_was_seen() -> None:
    scene = Scene()
    scene.append(world.Producer().send())
    scene.ledger.first_seen[scene.log, 0] = world.NOW + SECOND // 2
    scene.run()
    [judged] = scene.ledger.judged()
    assert (judged.arrival, judged.time_source) == (world.NOW + SECOND // 2, "RECEIPT")


def test_a_new_log_is_read_from_its_start_and_chain_state_carries_over() -> None:
    producer = world.Producer()
    scene = Scene()
    first = producer.send()
    scene.append(first)
    scene.run()
    scene.broker = MemoryBroker("cluster-2")
    scene.append(first, producer.send())
    scene.run()
    assert scene.dispositions() == ["accepted", "duplicate", "accepted"]
    assert [f.log.log_id for f in scene.ledger.flushes] == ["cluster-1", "cluster-2"]


def test_a_broker_that_became_another_stops_the_worker() -> None:
    scene = Scene()
    scene.append(world.Producer().send())
    partition = scene.partition()
    scene.broker.cluster = "cluster-2"
    with pytest.raises(LogChanged):
        scene.run(partition)
    assert not scene.ledger.flushes


def test_a_new_log_is_noticed_before_its_offsets_pass_for_old_ones() -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(producer.send(), producer.send())
    partition = scene.run()
    scene.broker = MemoryBroker("cluster-2")
    partition.ports = replace(partition.ports, broker=scene.broker)
    with pytest.raises(LogChanged):
        partition.process([raw(0, producer.send())])


def test_a_log_that_ends_before_the_cursor_is_another_log() -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(producer.send(), producer.send())
    scene.run()
    scene.broker.logs[1].pop()
    with pytest.raises(LogChanged):
        scene.partition()


def test_messages_that_the_broker_dropped_unread_are_lost_and_reported() -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(*(producer.send() for _ in range(5)))
    partition = scene.partition()
    partition.process(scene.broker.logs[1][:1])
    del scene.broker.logs[1][:3]
    scene.run()
    assert [(first, last) for _, first, last in scene.ledger.lost] == [(1, 2)]
    assert [f.code.value for _, _, f in scene.reports] == ["DATA_LOSS_WINDOW"]
    assert [(f.first_offset, f.last_offset) for f in scene.ledger.flushes] == [(0, 0), (3, 4)]


def test_what_a_log_dropped_before_anybody_read_it_is_lost_and_reported() -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(*(producer.send() for _ in range(4)))
    del scene.broker.logs[1][:3]
    scene.run()
    assert [(first, last) for _, first, last in scene.ledger.lost] == [(0, 2)]
    assert [f.code.value for _, _, f in scene.reports] == ["DATA_LOSS_WINDOW"]
    assert [(f.first_offset, f.last_offset) for f in scene.ledger.flushes] == [(3, 3)]


def test_what_another_worker_committed_meanwhile_is_not_lost() -> None:
    """It was frozen and replaced, and ended its flush after all; then the log dropped it all."""
    producer = world.Producer()
    scene = Scene()
    scene.append(*(producer.send() for _ in range(3)))
    frozen, ours = scene.partition(), scene.partition()
    frozen.process(scene.broker.logs[1][:2])
    del scene.broker.logs[1][:2]
    with pytest.raises(SkippedMessages, match="offsets 0 to 1 were committed meanwhile"):
        scene.run(ours)
    assert (scene.ledger.lost, scene.reports) == ([], [])
    scene.run()
    assert scene.dispositions() == ["accepted"] * 3


def test_loss_in_the_middle_of_a_run_is_seen_too() -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(*(producer.send() for _ in range(4)))
    partition = scene.partition()
    partition.process(scene.broker.logs[1][:1])
    del scene.broker.logs[1][:3]
    scene.run(partition)
    assert [(first, last) for _, first, last in scene.ledger.lost] == [(1, 2)]


def test_holes_of_compaction_are_covered_by_the_commit() -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(*(producer.send() for _ in range(3)))
    partition = scene.partition()
    partition.process(scene.broker.logs[1][:1])
    del scene.broker.logs[1][1]
    scene.run(partition)
    assert [(f.first_offset, f.last_offset) for f in scene.ledger.flushes] == [(0, 0), (1, 2)]
    assert scene.ledger.lost == []


def test_a_consumer_that_skips_messages_is_not_believed() -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(*(producer.send() for _ in range(3)))
    partition = scene.partition()
    with pytest.raises(SkippedMessages):
        partition.process(scene.broker.logs[1][1:])
    assert scene.ledger.flushes == []


def test_nor_is_one_that_skips_in_the_middle() -> None:
    producer = world.Producer()
    scene = Scene()
    scene.append(*(producer.send() for _ in range(4)))
    partition = scene.partition()
    messages = scene.broker.logs[1]
    with pytest.raises(SkippedMessages):
        partition.process([*messages[:2], messages[3]])
    assert partition.next_offset == 2
    assert partition.begin([messages[2], raw(9, b"")]) is None, "is for process to look at"


def test_a_partition_that_was_taken_away_commits_nothing() -> None:
    scene = Scene()
    scene.append(world.Producer().send())
    partition = scene.partition()
    partition.close()
    scene.run(partition)
    assert scene.ledger.flushes == []


def test_large_runs_are_committed_in_flushes_of_bounded_size() -> None:
    producer = world.Producer()
    scene = Scene(caps=Caps(7, 2**24))
    scene.append(*(producer.send(3) for _ in range(5)), producer.send(20))
    scene.run()
    assert [(f.first_offset, f.last_offset) for f in scene.ledger.flushes] == [
        (0, 1),
        (2, 3),
        (4, 4),
        (5, 5),
    ]


def test_a_tombstone_is_quarantined() -> None:
    scene = Scene()
    scene.append(None)
    scene.run()
    assert scene.dispositions() == ["quarantined"]
    assert scene.ledger.judged()[0].message == raw(0, None)
