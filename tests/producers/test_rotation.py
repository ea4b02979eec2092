"""A key takes the place of another while a service runs: the chain goes on, nothing waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.producers.world import World, judge

from sealtrail.errors import ContractError
from sealtrail.event import EventType
from sealtrail.keys import Algorithm
from sealtrail_producer import keyring, rotation, signing
from sealtrail_producer.authority import Authority
from sealtrail_producer.errors import KeyFileError
from sealtrail_producer.files import write_private
from sealtrail_producer.signing import KeySigner

if TYPE_CHECKING:
    from pathlib import Path

    from sealtrail_producer.ports import Message
    from sealtrail_producer.settings import ProducerSettings
    from sealtrail_producer.trail import Trail


def emit(trail: Trail, count: int = 1) -> None:
    for _ in range(count):
        trail.emit("a", event_type=EventType.CREATE)
    assert trail.flush(5)


def test_the_chain_goes_on_across_keys(world: World) -> None:
    old, new = KeySigner.generate(), KeySigner.generate()
    world.signers = [old, new]
    directory = world.directory()
    world.signers = [old]
    trail = world.open()
    emit(trail, 3)
    chain = trail.chain_id
    trail.rotate([new])
    emit(trail, 2)
    assert trail.chain_id == chain
    trail.close()
    seen = judge(world.broker.messages(), directory, world.clock.time_us)
    assert seen.findings == []
    assert {b.statement.chain_id for b in seen.batches} == {chain}
    signers = [b.statement.signers for b in seen.batches]
    assert signers == [(old.public_key.fingerprint,)] + [(new.public_key.fingerprint,)] * 2
    assert len(seen.events) == 5


def test_heartbeats_and_the_next_chain_are_signed_with_the_new_key(world: World) -> None:
    old, new = KeySigner.generate(), KeySigner.generate()
    world.signers = [old, new]
    directory = world.directory()
    world.signers = [old]
    trail = world.open(heartbeat_s=60, chain_s=100)
    emit(trail)
    trail.rotate([new])
    world.clock.advance(61)
    trail.flush(0)
    for _ in range(3):
        trail._opened().send_step()
    world.clock.advance(100)
    emit(trail)
    trail.close()
    seen = judge(world.broker.messages(), directory, world.clock.time_us)
    assert {b.heartbeat.signers for b in seen.heartbeats} == {(new.public_key.fingerprint,)}
    assert len({b.statement.chain_id for b in seen.batches}) == 2
    assert seen.batches[-1].statement.signers == (new.public_key.fingerprint,)
    assert seen.findings == []


def test_keys_that_cannot_sign_together_change_nothing(world: World) -> None:
    trail = world.open()
    one = KeySigner.generate()
    for bad in ([], [one, one], [KeySigner.generate() for _ in range(5)]):
        with pytest.raises(ContractError):
            trail.rotate(bad)
    emit(trail)


def keyed(world: World) -> tuple[ProducerSettings, Path]:
    """A producer whose key lies where the SDK looks for it."""
    settings = world.settings()
    file = keyring.default_file(settings, "orders", Algorithm.ED25519)
    signing.new_file(file, "")
    return settings, file


def test_a_running_service_finds_the_key_that_was_put_in_place(world: World) -> None:
    settings, file = keyed(world)
    ring = keyring.Keyring(settings, "orders")
    change = rotation.prepare(settings, "orders", Algorithm.ED25519)
    assert ring.poll() is None  # made, not in place yet
    change.put_in_place()
    (fresh,) = ring.poll()
    assert fresh.public_key == change.new != change.old
    assert ring.poll() is None
    assert change.kept.stat().st_mode & 0o077 == 0
    # Both open with the same passphrase: one rename is enough.
    assert keyring.open_key(str(file), settings).public_key == change.new


def test_a_crash_in_the_middle_is_gone_on_from(world: World) -> None:
    settings, _ = keyed(world)
    first = rotation.prepare(settings, "orders", Algorithm.ED25519)
    second = rotation.prepare(settings, "orders", Algorithm.ED25519)
    assert (first.old, first.new) == (second.old, second.new)


def test_a_service_looks_for_its_key_now_and_then(world: World) -> None:
    settings, file = keyed(world)
    ring = keyring.Keyring(settings, "orders")
    world.signers = list(ring.signers)
    from sealtrail_producer.trail import Trail

    ports = world.open()._ports
    trail = Trail("orders", settings, ring.signers, ports, threads=False, rotated=ring.poll)
    world.trails.append(trail)
    change = rotation.prepare(settings, "orders", Algorithm.ED25519)
    secret = signing.passphrase("", file.with_suffix(".pass"))
    world.signers.append(signing.load(change.fresh, secret))
    directory = world.directory()
    emit(trail)
    change.put_in_place()
    emit(trail)  # within the two seconds: still the old one
    world.clock.advance(3)
    emit(trail)
    seen = judge(world.broker.messages(), directory, world.clock.time_us)
    signers = [b.statement.signers[0] for b in seen.batches]
    assert signers == [change.old.fingerprint] * 2 + [change.new.fingerprint]


def test_a_key_that_cannot_be_read_stops_nobody(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    settings, file = keyed(world)
    ring = keyring.Keyring(settings, "orders")
    before = ring.signers
    good = file.read_bytes()
    for bad in (b"half of a k", b""):
        file.write_bytes(bad)
        assert ring.poll() is None
    assert ring.poll() is None
    file.unlink()
    assert ring.poll() is None
    assert ring.signers == before
    assert len(caplog.records) == 2  # each complaint once: not a key, gone
    write_private(file, good)
    assert ring.poll() is None  # the same key


def test_only_keys_in_files_are_put_in_place(world: World) -> None:
    settings = world.settings(signers="vault:transit/orders")
    with pytest.raises(KeyFileError, match="lies in a file"):
        rotation.prepare(settings, "orders", Algorithm.ED25519)


def test_the_overlap_is_as_the_contract_says(world: World) -> None:
    """Both keys are good until the old one's end; then what it signed before may still come."""
    from sealtrail import validate
    from sealtrail.records import SPOOL_GRACE_US, Directory

    old, new = KeySigner.generate(), KeySigner.generate()
    authority = Authority(world.settings())
    directory = Directory(authority.init())
    now = world.clock.time_us
    directory.add(authority.pin_schema(now).encode(), 0)
    for signer in (old, new):
        directory.add(authority.register("orders", signer.public_key, now).encode(), 0)
    end = now + 60_000_000
    directory.add(authority.retire(old.public_key.fingerprint, end).encode(), 0)
    world.signers = [old]
    trail = world.open(heartbeat_s=3600)
    emit(trail)
    world.clock.advance(61)
    emit(trail)  # a service that never looked
    trail.rotate([new])
    emit(trail)
    straddling, late, after = world.broker.messages()
    place = validate.Place("local", {"default"}, after.topic, after.partition)

    def judged(message: Message, arrival: int) -> str:
        outcome = validate.validate(message.value, place, arrival, directory)
        return outcome.code if isinstance(outcome, validate.Refused) else "good"

    assert judged(straddling, now) == judged(straddling, end + SPOOL_GRACE_US) == "good"
    assert judged(straddling, end + SPOOL_GRACE_US + 1) == "KEY_REVOKED"
    assert judged(late, end - 1) == "good"  # it arrived before the end, whatever its clock says
    assert judged(late, end + 1_000_000) == "KEY_REVOKED"
    assert judged(after, end + 1_000_000) == "good"
