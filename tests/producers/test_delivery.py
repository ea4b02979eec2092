"""Faults between spool and brokers: the same bytes arrive, in order, and duplicates are that."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_producer import AUXILIARY, CREATE, Backlog
from sealtrail_producer.errors import (
    MessageRefusedError,
    PartitionCountError,
    SigningError,
    SpoolDiskError,
    SpoolFullError,
    TrailClosedError,
)
from sealtrail_producer.signing import KeySigner

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.producers.world import Seen, World

    from sealtrail.keys import PublicKey
    from sealtrail_producer import Trail


def emit(trail: Trail, count: int, **fields: Any):
    return [trail.emit(f"e{n}", event_type=CREATE, **fields) for n in range(count)]


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


def test_what_close_could_not_send_is_sent_by_the_next_process_and_its_chain_continued(
    world: World, judged: Callable[[], Seen]
):
    world.broker.down = True
    first = world.open()
    emit(first, 3)
    assert not first.close(1)
    world.broker.down = False
    second = world.open()
    emit(second, 2)
    assert second.close(60)
    old, new = judged().batches
    assert new.statement.genesis.continues.head == old.statement_hash


def test_a_crash_sends_the_same_bytes_again_and_continues_the_head(
    world: World, judged: Callable[[], Seen]
):
    first = world.open(batch_events=5)
    emit(first, 12, durable=False)
    first._core.flush_step()
    assert first.flush(10)
    before = world.broker.messages()
    # As if the acknowledgements had been lost with the process.
    (first._core.slot.folder / "acked").unlink()
    world.crash(first)
    second = world.open()
    emit(second, 1)
    assert second.close(60)
    after = world.broker.messages()[len(before) :]
    assert after[: len(before)] == before
    seen = judged()
    assert seen.duplicates == len(before)
    assert not seen.findings
    assert seen.batches[-1].statement.genesis.continues.head == seen.batches[-2].statement_hash


@pytest.mark.parametrize("policy", ["interval", "never"])
def test_a_head_that_was_sent_before_it_was_on_disk_is_not_continued(world: World, policy: str):
    first = world.open(spool_fsync=policy)
    emit(first, 1)
    first._core.flush_step()
    world.crash(first)
    second = world.open(spool_fsync=policy)
    assert second._core.intake.chain.genesis.continues is None


@pytest.mark.parametrize("policy", ["always", "interval", "never"])
def test_a_closed_chain_is_continued_whatever_the_policy(world: World, policy: str):
    first = world.open(spool_fsync=policy)
    chain = first.chain_id
    emit(first, 1)
    first.close()
    second = world.open(spool_fsync=policy)
    assert second._core.intake.chain.genesis.continues.chain_id == chain


@pytest.mark.parametrize("changed", [{"tenant": "t2"}, {"environment": "e2"}, {"topic": "other"}])
def test_a_head_of_another_tenant_environment_or_topic_is_not_continued(
    world: World, changed: dict[str, Any]
):
    first = world.open()
    emit(first, 1)
    first.close()
    second = world.open(**changed)
    assert second._core.intake.chain.genesis.continues is None


def test_another_process_beside_it_gets_another_instance(world: World):
    first, second = world.open(), world.open()
    assert (first.instance, second.instance) == ("host", "host.1")
    assert first.chain_id != second.chain_id


def test_the_spool_of_a_dead_process_is_adopted(world: World, judged: Callable[[], Seen]):
    first, second = world.open(), world.open()
    emit(second, 3)
    second._core.flush_step()
    world.crash(second)
    emit(first, 2)
    assert first.flush(10)
    for _ in range(3):
        first._core.send_step()
    assert first.close()
    seen = judged()
    assert len(seen.events) == 5
    assert {b.statement.instance for b in seen.batches} == {"host", "host.1"}
    third = world.open(), world.open()
    assert third[1]._core.spool.empty


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


class FailingDisk:
    """An fsync that fails while told to."""

    def __init__(self) -> None:
        self.broken = False

    def __call__(self, descriptor: int) -> None:
        if self.broken:
            raise OSError(28, "No space left on device")


def test_a_full_spool_raises_as_configured_and_drops_no_essential_event(
    world: World, judged: Callable[[], Seen]
):
    trail = world.open(spool_full="raise", spool_bytes=65_536, batch_events=1)
    world.broker.down = True
    sent = 0
    while trail._core.intake.stuck is None:
        trail.emit("x", event_type=CREATE, attributes={"a": "b" * 5000})
        sent += 1
        trail._core.flush_step()
    assert sent < 20
    # What could not be spooled waits in memory; a service can tell all of it.
    backlog = trail.backlog()
    assert backlog.events == 1
    assert 5000 < backlog.spool_bytes <= backlog.spool_limit == 65_536
    assert "is full" in backlog.stuck
    with pytest.raises(SpoolFullError):
        trail.emit("x", event_type=CREATE)
    # AUXILIARY ones make room: left out, and counted.
    assert trail.emit("y", event_type=CREATE, importance=AUXILIARY).sampled_out
    world.broker.down = False
    world.clock.advance(60)
    assert trail.flush(60)
    assert trail.backlog() == Backlog(0, 0, 65_536, "")
    trail.emit("z", event_type=CREATE)
    assert trail.close(60)
    with pytest.raises(TrailClosedError):
        trail.backlog()
    seen = judged()
    assert len(seen.events) == sent + 1
    assert seen.batches[-1].statement.sampled_out == 1


def test_a_full_spool_blocks_as_configured_until_there_is_room(
    world: World, judged: Callable[[], Seen]
):
    trail = world.open(threads=True, spool_bytes=65_536, batch_events=4, batch_ms=1, queue_events=8)
    world.clock.step_s = 0.05
    world.broker.down = True
    done = threading.Event()

    def work() -> None:
        emit(trail, 100, attributes={"a": "b" * 5000})
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert not done.wait(0.5)
    world.broker.down = False
    assert done.wait(20)
    thread.join()
    assert trail.close(10_000)
    assert len(judged().events) == 100


def test_at_the_end_the_bound_gives_way_rather_than_an_event(
    world: World, judged: Callable[[], Seen]
):
    trail = world.open(spool_bytes=65_536, batch_events=1)
    world.broker.down = True
    for _ in range(30):
        trail._core.intake.stuck = None
        trail.emit("x", event_type=CREATE, attributes={"a": "b" * 5000})
        trail._core.flush_step()
    assert not trail.close(1)
    world.broker.down = False
    with world.open() as second:
        emit(second, 1)
        assert second.flush(60)
    assert len(judged().events) == 31


def test_a_disk_that_refuses_is_a_typed_error_and_the_batch_is_kept(
    world: World, judged: Callable[[], Seen]
):
    trail = world.open(spool_full="raise")
    disk = FailingDisk()
    trail._core.spool._fsync = disk
    disk.broken = True
    with pytest.raises(SpoolDiskError, match="No space left"):
        trail.emit("x", event_type=CREATE, durable=True)
    with pytest.raises(SpoolDiskError):
        trail.emit("y", event_type=CREATE)
    disk.broken = False
    trail._core.flush_step()
    trail.emit("z", event_type=CREATE, durable=True)
    assert trail.close()
    seen = judged()
    assert not seen.findings
    assert len(seen.events) == 2


def test_durable_means_synced_whatever_the_policy(world: World):
    trail = world.open(spool_fsync="never")
    synced: list[int] = []
    trail._core.spool._fsync = synced.append
    trail.emit("x", event_type=CREATE)
    trail._core.flush_step()
    assert not synced
    trail.emit("y", event_type=CREATE, durable=True)
    assert synced


def test_with_interval_the_flusher_syncs_now_and_then(world: World):
    trail = world.open(spool_fsync="interval", spool_fsync_ms=1000)
    synced: list[int] = []
    trail._core.spool._fsync = synced.append
    trail.emit("x", event_type=CREATE)
    trail._core.flush_step()
    assert not synced
    world.clock.advance(2)
    trail._core.flush_step()
    assert len(synced) == 1
    world.clock.advance(2)
    trail._core.flush_step()
    assert len(synced) == 1


class MoodySigner:
    """A signer in a vault that cannot be reached while it is away."""

    def __init__(self) -> None:
        self.inner = KeySigner.generate()
        self.away = False

    @property
    def public_key(self) -> PublicKey:
        return self.inner.public_key

    def sign(self, message: bytes) -> bytes:
        if self.away:
            raise ConnectionError("vault is sealed")
        return self.inner.sign(message)


def test_a_signer_that_fails_for_a_while_costs_no_event(
    world: World, judged: Callable[[], Seen]
) -> None:
    signer = MoodySigner()
    world.signers = [signer]
    trail = world.open(spool_full="raise")
    emit(trail, 2)
    signer.away = True
    assert not trail._core.flush_step()
    with pytest.raises(SigningError, match="vault is sealed"):
        emit(trail, 1)
    signer.away = False
    assert trail._core.flush_step()
    emit(trail, 1)
    assert trail.close()
    seen = judged()
    assert not seen.findings
    assert len(seen.events) == 3


def test_a_roll_waits_for_the_signer_and_closes_once(
    world: World, judged: Callable[[], Seen]
) -> None:
    signer = MoodySigner()
    world.signers = [signer]
    trail = world.open(chain_s=10)
    emit(trail, 2)
    world.clock.advance(11)
    signer.away = True
    for _ in range(3):
        with pytest.raises(SigningError):
            emit(trail, 1)
    signer.away = False
    emit(trail, 1)
    assert trail.close()
    seen = judged()
    assert not seen.findings
    assert [(b.statement.count, b.statement.closes) for b in seen.batches] == [(2, True), (1, True)]


def test_what_can_never_be_signed_is_an_error_at_the_end(world: World) -> None:
    signer = MoodySigner()
    world.signers = [signer]
    trail = world.open()
    emit(trail, 1)
    signer.away = True
    with pytest.raises(SigningError):
        trail.close(1)


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
