"""Bits that were flipped, signatures that are stripped, and keys that are wrong, unknown, ended."""

from __future__ import annotations

import hmac
from dataclasses import replace
from hashlib import sha512
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.attacks.registry import attack
from tests.scenarios.chains import SECOND, Chain, now_us

from sealtrail import dsse
from sealtrail.findings import Code
from sealtrail_producer.signing import KeySigner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scenarios.scene import Scene

    from sealtrail.records import KeyRecord as _KeyRecord


# Of Ed25519's group (RFC 8032 section 5.1).
ORDER = 2**252 + 27742317777372353535851937790883648493


def flip(data: bytes, at: int) -> bytes:
    """The bytes with one bit changed."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@attack("A1")
def bit_flipped_in_event(scene: Scene) -> None:
    chain = scene.chain("orders", 0)
    made = chain.make(5)
    events = [*made.events]
    for index, at in ((0, 0), (2, 40), (4, -1)):
        changed = [*events]
        changed[index] = flip(changed[index], at)
        scene.refuse(made.with_envelope(events=tuple(changed)), 0, Code.BAD_ROOT)
    # What it was made from is as good as ever.
    scene.accept(made)
    scene.accept(chain.make())


@attack("A1")
def bit_flipped_in_statement(scene: Scene) -> None:
    made = scene.chain("billing", 1).make()
    for at in (-1, -20, 3):
        value = made.with_envelope(statement=flip(made.envelope.statement, at))
        scene.refuse(value, 1, Code.BAD_SIGNATURE)
    scene.accept(made)


@attack("A1")
def bit_flipped_in_signature(scene: Scene) -> None:
    made = scene.chain("shipping", 2).make()
    (signature,) = made.envelope.signatures
    for at in (0, 31, 32, 63):
        value = made.with_envelope(signatures=(flip(signature, at),))
        scene.refuse(value, 2, Code.BAD_SIGNATURE)
    scene.accept(made)


@attack("A1", "A7")
def bit_flipped_in_the_name_of_the_signer(scene: Scene) -> None:
    made = scene.chain("orders", 3).make()
    statement = made.envelope.statement
    at = statement.index(made.statement.signers[0])
    value = made.with_envelope(statement=flip(statement, at + 7))
    # Nobody knows such a key; it might still be registered.
    scene.refuse(value, 3, Code.UNKNOWN_KEY)


@attack("A8")
def signer_stripped(scene: Scene) -> None:
    chain = scene.chain("vault", 2)
    made = chain.make()
    assert len(made.envelope.signatures) == 2
    one, other = made.envelope.signatures
    for left in ((one,), (other,), (other, one), (one, one), ()):
        scene.refuse(made.with_envelope(signatures=left), 2, Code.BAD_SIGNATURE)
    # The names of the signers are signed: they cannot be cut to those who are left either.
    for signer, signature in zip(made.statement.signers, (one, other), strict=True):
        cut = replace(made.statement, signers=(signer,)).encode()
        value = made.with_envelope(statement=cut, signatures=(signature,))
        scene.refuse(value, 2, Code.BAD_SIGNATURE)
    scene.accept(made)


@attack("A7")
def name_of_another_key(scene: Scene) -> None:
    """The statement names the key of one service, another's signs; and the reverse."""
    orders, billing = scene.chain("orders", 0), scene.chain("billing", 0)
    for chain, other in ((orders, billing), (billing, orders)):
        names = tuple(s.public_key.fingerprint for s in other.signers)
        scene.refuse(chain.draft(signers=names).value, 0, Code.BAD_SIGNATURE)


@attack("A8")
def another_algorithm(scene: Scene) -> None:
    """None at all, HMAC under the public key, a pre-hashed message, one of another length."""
    chain = scene.chain("orders", 1)
    made = chain.make()
    (signer,) = chain.signers
    message = dsse.pae(dsse.BATCH, made.envelope.statement)
    vault = scene.chain("vault", 1).make().envelope.signatures
    for signature in (
        b"",
        hmac.digest(signer.public_key.raw, message, "sha256"),
        hmac.digest(signer.public_key.der, message, "sha256"),
        signer.sign(sha512(message).digest()),
        signer.sign(made.envelope.statement),
        *vault,
    ):
        value = made.with_envelope(signatures=(signature,))
        scene.refuse(value, 1, Code.BAD_SIGNATURE)
    for kind in ("none", "HS256", dsse.BATCH.upper(), f"{dsse.BATCH};alg=none", ""):
        value = made.with_envelope(payload_type=kind)
        scene.refuse(value, 1, Code.UNKNOWN_PAYLOAD_TYPE)
    scene.accept(made)


@attack("A10")
def malleated_signature(scene: Scene) -> None:
    """S + L, S with high bits set, R that is not canonical: the event is the same or nothing."""
    made = scene.chain("orders", 2).make()
    (signature,) = made.envelope.signatures
    point, scalar = signature[:32], int.from_bytes(signature[32:], "little")
    bent = [point + (scalar + n * ORDER).to_bytes(32, "little") for n in (1, 2, 8)]
    bent += [signature[:-1] + bytes([signature[-1] | bit]) for bit in (0x20, 0x40, 0x80)]
    bent += [y.to_bytes(32, "little") + signature[32:] for y in (2**255 - 1, 2**255 - 19, 1, 0)]
    bent += [signature + b"\0", signature[:-1]]
    for changed in bent:
        scene.refuse(made.with_envelope(signatures=(changed,)), 2, Code.BAD_SIGNATURE)
    scene.accept(made)
    for changed in bent:
        scene.refuse(made.with_envelope(signatures=(changed,)), 2, Code.BAD_SIGNATURE)


@attack("A2")
def wrong_key(scene: Scene) -> None:
    """A key that we know, of somebody else."""
    victim = scene.chain("orders", 0)
    scene.accept(victim.make())
    victim.signers = scene.signers("billing")
    scene.refuse(victim.draft().value, 0, Code.KEY_NOT_AUTHORISED)
    thief = Chain(scene.signers("shipping"), "orders", 1)
    scene.refuse(thief.make().value, 1, Code.KEY_NOT_AUTHORISED)


@attack("A3")
def unknown_key(scene: Scene) -> Iterator[None]:
    """Parked, and released in order once the key is registered: as if it had come in time."""
    scene.run("keys", "new", "--producer", "newcomer")
    chain = scene.chain("newcomer", 1)
    batches = [chain.make(n) for n in (3, 1, 4)]
    parked = [scene.refuse(made.value, 1, Code.UNKNOWN_KEY, key=b"k") for made in batches]
    scene.kept["parked"] = list(zip(batches, parked, strict=True))
    yield
    before = scene.count("disposition = 'released'")
    scene.run("keys", "register", "--producer", "newcomer")
    # What comes before they do would stand behind a gap that they fill.
    awaited = before + len(parked)
    scene.wait("releases", lambda: scene.count("disposition = 'released'") == awaited)
    scene.accept(chain.make(2))


@attack("A15")
def key_of_nobody(scene: Scene) -> None:
    """A stranger's key, and a record of it that a stranger signed."""
    from sealtrail.records import SignedRecord

    stranger = KeySigner(Ed25519PrivateKey.generate())
    record = replace(
        _record(scene, "orders"),
        fingerprint=stranger.public_key.fingerprint,
        public_key=stranger.public_key.der,
        version=1,
        previous=bytes(32),
    )
    forged = SignedRecord.sign(record, [stranger])
    key = stranger.public_key.fingerprint.hex().encode()
    scene.publish("provenance.keys", key, forged.encode())
    scene.flush()
    scene.refuse(Chain([stranger], "orders", 3).make().value, 3, Code.UNKNOWN_KEY)


def _record(scene: Scene, producer: str) -> _KeyRecord:
    from sealtrail.records import KeyRecord, SignedRecord

    (signer,) = scene.signers(producer)
    name = f"{signer.public_key.fingerprint.hex()}.record"
    data = (scene.folder / "trust" / "records" / name).read_bytes()
    return KeyRecord.decode(SignedRecord.decode(data).body)


@attack("A4")
def key_retired(scene: Scene) -> Iterator[None]:
    """What was signed before its end still counts; an old record does not bring it back."""
    chain = scene.chain("retiree", 0)
    scene.accept(chain.make())
    (signer,) = scene.signers("retiree")
    name = signer.public_key.fingerprint.hex()
    old = (scene.folder / "trust" / "records" / f"{name}.record").read_bytes()
    before = chain.make()
    yield
    scene.run("keys", "revoke", name, "--reason", "RETIRED")
    scene.publish("provenance.keys", name.encode(), old)
    scene.publish("provenance.keys", name.encode(), None)
    scene.flush()
    scene.accept(before)
    scene.refuse(chain.draft().value, 0, Code.KEY_REVOKED)
    scene.refuse(scene.chain("retiree", 1).make().value, 1, Code.KEY_REVOKED)


@attack("A4")
def key_compromised(scene: Scene) -> Iterator[None]:
    """Whoever has it can sign any time: what arrives later is refused whatever it says."""
    chain = scene.chain("leaked", 2)
    scene.accept(chain.make())
    before = chain.draft()
    yield
    (signer,) = scene.signers("leaked")
    scene.run("keys", "revoke", signer.public_key.fingerprint.hex(), "--reason", "COMPROMISED")
    scene.refuse(before.value, 2, Code.KEY_REVOKED)
    backdated = chain.draft(signed_at=now_us() - 3600 * SECOND)
    scene.refuse(backdated.value, 2, Code.KEY_REVOKED)
