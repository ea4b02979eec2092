"""Faults between spool and brokers: the same bytes arrive, in order, and duplicates are that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.producers.world import emit

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_producer.errors import MessageRefusedError, PartitionCountError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.producers.world import Seen, World


def test_a_lost_acknowledgement_sends_the_same_bytes_again(
    world: World, judged: Callable[[], Seen]
):
    trail = world.open(batch_events=5)
    emit(trail, 20)
    world.broker.lose_acks = 2
    assert trail.flush(60)
    assert trail.close()
    seen = judged()
    assert seen.duplicates >= 1
    assert not seen.findings
    assert len(seen.events) == 20


def test_refused_messages_are_sent_again_in_order(world: World, judged: Callable[[], Seen]):
    trail = world.open(batch_events=5)
    world.broker.refuse = 1
    emit(trail, 20)
    assert trail.close(60)
    seen = judged()
    assert len(seen.events) == 20
    # What followed the refused one in the same connection arrived first, and was filled in.
    assert {f.code.name for f in seen.findings} <= {"GAP", "GAP_FILLED"}


def test_an_outage_holds_batches_back_in_the_spool(world: World, judged: Callable[[], Seen]):
    trail = world.open(batch_events=5)
    world.broker.down = True
    emit(trail, 20)
    assert not trail.flush(1)
    assert not world.broker.messages()
    world.broker.down = False
    world.clock.advance(60)
    assert trail.close(60)
    seen = judged()
    assert len(seen.events) == 20
    assert not seen.duplicates


def test_brokers_that_acknowledge_nothing_are_spoken_of(
    world: World, judged: Callable[[], Seen], caplog: pytest.LogCaptureFixture
):
    trail = world.open(batch_events=5)
    emit(trail, 5)
    assert trail.flush(1)
    world.broker.down = True
    emit(trail, 5)
    assert not trail.flush(1)
    assert caplog.messages == []
    world.clock.advance(11)
    assert not trail.flush(1)
    world.clock.advance(11)
    assert not trail.flush(1)
    [said] = caplog.messages
    assert said.startswith("the brokers do not acknowledge batch ")
    assert said.endswith(" is down; batches wait in the spool")
    world.broker.down = False
    assert trail.close(60)
    assert len(judged().events) == 10


def test_another_number_of_partitions_is_a_clear_error_and_loses_nothing(world: World):
    world.broker.counts["provenance.events"] = 8
    trail = world.open()
    emit(trail, 1)
    with pytest.raises(PartitionCountError, match="8 partitions"):
        trail.flush(10)
    assert not trail._core.spool.empty


def test_with_threads_it_is_raised_by_whatever_is_called_next(world: World):
    world.broker.counts["provenance.events"] = 8
    trail = world.open(threads=True, batch_ms=1)
    emit(trail, 1)
    with pytest.raises(PartitionCountError):
        trail.flush(10_000)
    with pytest.raises(ConfigurationError):
        emit(trail, 1)
    with pytest.raises(PartitionCountError):
        trail.close(10_000)


def test_the_registry_may_be_down_when_ids_are_remembered(world: World, judged: Callable[[], Seen]):
    with world.open() as trail:
        emit(trail, 1)
    world.registry.down = True
    with world.open() as trail:
        emit(trail, 1)
        assert trail.flush(10)
    assert len(judged().events) == 2


def test_without_ids_batches_wait_unframed_and_get_them_later(
    world: World, judged: Callable[[], Seen]
):
    world.registry.down = True
    trail = world.open()
    emit(trail, 3)
    assert not trail.flush(1)
    assert not trail._core.spool.get(0).framed
    world.registry.down, world.registry.first = False, 70
    world.clock.advance(60)
    assert trail.close(60)
    (message, _) = world.broker.messages()
    assert message.value[:5] == b"\x00\x00\x00\x00\x46"
    assert len(judged().events) == 3


def test_both_subjects_are_registered_fully_transitive(world: World):
    with world.open() as trail:
        emit(trail, 1)
    subjects = {"provenance.events-value", "provenance.event-record-value"}
    assert {subject for subject, _ in world.registry.schemas} == subjects
    assert set(world.registry.compatibility.values()) == {"FULL_TRANSITIVE"}


def test_a_message_that_the_brokers_never_take_is_a_clear_error(world: World) -> None:
    world.broker.largest = 1000
    trail = world.open()
    emit(trail, 100)
    with pytest.raises(MessageRefusedError, match="too large"):
        trail.flush(10)


def test_a_thread_that_ends_is_told_to_whoever_emits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("a bug")

    trail = world.open(threads=True, batch_ms=1)
    monkeypatch.setattr(trail._core.flusher, "flush", broken)
    emit(trail, 1)
    with pytest.raises(UnavailableError, match="a bug"):
        trail.flush(10_000)
    with pytest.raises(UnavailableError, match="a bug"):
        emit(trail, 1)
    monkeypatch.undo()
    with pytest.raises(UnavailableError, match="a bug"):
        trail.close(10_000)
