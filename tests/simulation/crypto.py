"""Keys whose signatures cost a hash: a simulation is about order and loss, not about curves.

The public keys are real and registered by real records. What such a key "signs" is a keyed hash,
which only its holder in this process can make; everything else goes through the real verification.
Attacks on signatures are shown elsewhere (tests/attacks, make mutations).
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealtrail import avro
from sealtrail.errors import SignatureError
from sealtrail.keys import PublicKey
from sealtrail.records import Directory, KeyRecord, SchemaPin, SignedRecord, TrustRoot
from sealtrail.statement import ZERO
from sealtrail.validate import event_subject
from sealtrail_producer.signing import KeySigner

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPIC = "provenance.events"
START_US = 1_780_000_000_000_000
DAY_US = 86_400_000_000


class CheapKey:
    """A producer's key (satisfies `sealtrail.dsse.Signer`)."""

    def __init__(self, name: str) -> None:
        private = Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())
        self.public_key = PublicKey.from_raw(private.public_key().public_bytes_raw())
        _SECRETS[self.public_key.fingerprint] = sha256(b"secret" + name.encode()).digest()

    def sign(self, message: bytes) -> bytes:
        """A keyed hash of a signature's length."""
        return _hash(self.public_key.fingerprint, message)


_SECRETS: dict[bytes, bytes] = {}


def _hash(fingerprint: bytes, message: bytes) -> bytes:
    return blake2b(message, key=_SECRETS[fingerprint], digest_size=64).digest()


@contextmanager
def cheap_signatures() -> Iterator[None]:
    """Verify what cheap keys signed by their hash, within."""
    verify = PublicKey.verify

    def either(self: PublicKey, signature: bytes, message: bytes) -> None:
        if self.fingerprint not in _SECRETS:
            verify(self, signature, message)
        elif signature != _hash(self.fingerprint, message):
            raise SignatureError("signature does not hold")

    PublicKey.verify = either  # type: ignore[method-assign]  # put back below
    try:
        yield
    finally:
        PublicKey.verify = verify  # type: ignore[method-assign]


@cache
def key_of(producer: str) -> CheapKey:
    """The key of a producer, the same in all runs."""
    return CheapKey(producer)


@cache
def directory(producers: tuple[str, ...]) -> Directory:
    """Keys of these producers, and the event schema, known long before."""
    operator = KeySigner(Ed25519PrivateKey.from_private_bytes(sha256(b"operator").digest()))
    known = Directory(TrustRoot(1, (operator.public_key,)))
    codec = avro.codec("ProvenanceEvent")
    pin = SchemaPin(event_subject(TOPIC), codec.fingerprint, 0, json.dumps(codec.schema))
    known.add(SignedRecord.sign(pin, [operator]).encode(), 0)
    for name in producers:
        key = key_of(name).public_key
        record = KeyRecord(
            fingerprint=key.fingerprint,
            version=1,
            previous=ZERO,
            algorithm=str(key.algorithm),
            public_key=key.der,
            producer=name,
            tenant="default",
            environment="local",
            topics=(TOPIC,),
            valid_from=START_US - DAY_US,
        )
        known.add(SignedRecord.sign(record, [operator]).encode(), 0)
    return known
