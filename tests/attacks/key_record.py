"""Keys outside of their time, registered twice, weak, or under another algorithm than theirs."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.attacks.assets.make import weak_keys
from tests.attacks.registry import attack
from tests.scenarios.chains import SECOND, TOPIC, Chain, framed, now_us, seal

from sealtrail.findings import Code
from sealtrail.keys import Algorithm
from sealtrail.records import KeyRecord, SignedRecord
from sealtrail.statement import ZERO
from sealtrail_producer.authority import topic_key
from sealtrail_producer.signing import KeySigner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from tests.scenarios.scene import Scene

    from sealtrail.dsse import Signer

HOUR = 3600 * SECOND
# SubjectPublicKeyInfo of Ed25519 (RFC 8410 section 4): what stands before the 32 bytes.
ED25519_DER = bytes.fromhex("302a300506032b6570032100")


def record(der: bytes, producer: str, **changes: Any) -> KeyRecord:
    """The first record of a key, in force since an hour."""
    made = KeyRecord(
        sha256(der).digest(),
        1,
        ZERO,
        str(Algorithm.ED25519),
        der,
        producer,
        "default",
        "local",
        (TOPIC,),
        now_us() - HOUR,
    )
    return replace(made, **changes)


def fresh_signer() -> KeySigner:
    """A key that nobody knows yet."""
    return KeySigner(Ed25519PrivateKey.generate())


@attack("A5")
def key_outside_its_time(scene: Scene) -> None:
    """Expired, not valid yet, and so long expired that no spool can explain it."""
    week = 7 * 24 * HOUR
    for begin, end, signed in (
        (-2 * HOUR, -HOUR, 0),
        (HOUR, None, 0),
        # Backdated to when it counted, but nothing lies in a spool for so long.
        (-3 * week, -week - HOUR, -week - 2 * HOUR),
        # Signed after its end, whatever the producer's clock says of the future.
        (-2 * HOUR, -HOUR, HOUR),
    ):
        signer = fresh_signer()
        until = None if end is None else now_us() + end
        der = signer.public_key.der
        scene.register(record(der, "orders", valid_from=now_us() + begin, valid_until=until))
        scene.flush()
        chain = Chain([signer], "orders", 3, skew_us=signed)
        scene.refuse(chain.make().value, 3, Code.KEY_EXPIRED)


@attack("A6")
def rotation(scene: Scene) -> Iterator[None]:
    """Two keys of one producer: the chain goes from one to the other, and the old one ends."""
    old, new = fresh_signer(), fresh_signer()
    ends = now_us() + 6 * SECOND
    scene.register(record(old.public_key.der, "orders", valid_until=ends))
    scene.register(record(new.public_key.der, "orders"))
    scene.flush()
    chain = Chain([old], "orders", 0)
    for signer in (old, new, old, new):
        chain.signers = [signer]
        scene.accept(chain.make())
    yield
    scene.wait("the old key's end", lambda: now_us() > ends + SECOND)
    chain.signers = [old]
    scene.refuse(chain.draft().value, 0, Code.KEY_EXPIRED)
    chain.signers = [new]
    scene.accept(chain.make())


@attack("A7")
def key_registered_twice(scene: Scene) -> None:
    """A second first record of a known key, for another producer: the key stays whose it was."""
    signer = fresh_signer()
    scene.register(record(signer.public_key.der, "orders"))
    scene.flush()
    scene.register(record(signer.public_key.der, "billing"))
    scene.flush()
    scene.accept(Chain([signer], "orders", 1).make())
    scene.refuse(Chain([signer], "billing", 1).make().value, 1, Code.KEY_NOT_AUTHORISED)


@attack("A7")
def fingerprint_of_another_key(scene: Scene) -> None:
    """Registered under the name of a key that it is not: the record does not count."""
    signer, other = fresh_signer(), fresh_signer()
    name = other.public_key.fingerprint
    scene.register(record(signer.public_key.der, "orders", fingerprint=name))
    # The first bytes alike: there are no short names.
    near = signer.public_key.fingerprint[:16] + bytes(16)
    scene.register(record(signer.public_key.der, "orders", fingerprint=near))
    scene.flush()
    for fingerprint in (name, near):
        chain = Chain([signer], "orders", 2)
        statement = chain.statement([], kind="CLOSE", signers=(fingerprint,)).encode()
        scene.refuse(seal(statement, (), [signer]), 2, Code.UNKNOWN_KEY)


@attack("A8")
def algorithm_of_another_key(scene: Scene) -> None:
    """The record says ML-DSA-44, the key is Ed25519: it does not count."""
    signer = fresh_signer()
    wrong = record(signer.public_key.der, "orders", algorithm=str(Algorithm.ML_DSA_44))
    scene.register(wrong)
    scene.flush()
    scene.refuse(Chain([signer], "orders", 1).make().value, 1, Code.UNKNOWN_KEY)


def short_of_two(made: Callable[[], KeyRecord], one: Signer, two: Signer) -> list[SignedRecord]:
    """Records that two operators must sign, signed by nobody or by one, however often."""
    alone, twice, borrowed, none = (SignedRecord.sign(made(), [one]) for _ in range(4))
    (signature,) = borrowed.signatures
    # The other's name over the same key's signature.
    names = sorted([signature, (two.public_key.fingerprint, signature[1])])
    return [
        alone,
        replace(twice, signatures=twice.signatures * 2),
        replace(borrowed, signatures=tuple(names)),
        replace(none, signatures=()),
    ]


@attack("A14")
def threshold_reached_by_one(scene: Scene) -> None:
    """Two operators must sign a key's record: one who signs twice is one."""
    one, two, _ = scene.operators()
    signers: list[KeySigner] = []

    def made() -> KeyRecord:
        signers.append(fresh_signer())
        return record(signers[-1].public_key.der, "orders")

    for signed in short_of_two(made, one, two):
        scene.publish("provenance.keys", topic_key(signed.read()), signed.encode())
    both = made()
    scene.register(both, one, two)
    scene.flush()
    *forged, good = (Chain([signer], "orders", 2) for signer in signers)
    for chain in forged:
        scene.refuse(chain.make().value, 2, Code.UNKNOWN_KEY)
    scene.accept(good.make())


@attack("A9")
def weak_key(scene: Scene) -> None:
    """Small order, not canonical, no point: signatures under some of them hold for anything."""
    chain = scene.chain("orders", 0)
    for raw in weak_keys():
        der = ED25519_DER + raw
        fingerprint = sha256(der).digest()
        scene.register(record(der, "orders"))
        statement = chain.statement([], kind="CLOSE", signers=(fingerprint,)).encode()
        value = seal(statement, (), chain.signers)
        envelope = replace(chain.draft().envelope, statement=statement, events=())
        # R and S of zeros, and the neutral element with S of zero: what such keys accept.
        for signature in (bytes(64), b"\1" + bytes(63)):
            forged = replace(envelope, signatures=(signature,))
            scene.refuse(framed(forged), 0, Code.UNKNOWN_KEY)
        scene.refuse(value, 0, Code.UNKNOWN_KEY)
    scene.flush()
