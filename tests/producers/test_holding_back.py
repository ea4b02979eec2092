"""A full spool, a disk or a signer that refuses: no event is lost, and the service is told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.producers.world import emit

from sealtrail_producer import AUXILIARY, CREATE, Backlog
from sealtrail_producer.errors import SigningError, SpoolDiskError, SpoolFullError, TrailClosedError
from sealtrail_producer.signing import KeySigner

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.producers.world import Seen, World

    from sealtrail.keys import PublicKey


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
