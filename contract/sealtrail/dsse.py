"""DSSE (secure-systems-lab/dsse, protocol.md v1.0.2): what is signed, signing, verifying.

Every use of a key has a payload type of its own, so that a signature made for one can never serve
for another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sealtrail.errors import SignatureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail.keys import PublicKey

PREFIX = "application/vnd.sealtrail."
BATCH = f"{PREFIX}batch.v1+avro"
HEARTBEAT = f"{PREFIX}heartbeat.v1+avro"
KEY_RECORD = f"{PREFIX}keyrecord.v1+avro"
SCHEMA_PIN = f"{PREFIX}schemapin.v1+avro"
ROOT = f"{PREFIX}root.v1+avro"
BUNDLE = f"{PREFIX}bundle.v1+avro"
PAYLOAD_TYPES = frozenset({BATCH, HEARTBEAT, KEY_RECORD, SCHEMA_PIN, ROOT, BUNDLE})


class Signer(Protocol):
    """Holds a private key or knows who does (a file, a module, a vault)."""

    @property
    def public_key(self) -> PublicKey:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """Sign the message as it is (no pre-hashing)."""


def pae(payload_type: str, body: bytes) -> bytes:
    """Pre-authentication encoding: "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body."""
    name = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(body), body)


def sign(payload_type: str, body: bytes, signers: Sequence[Signer]) -> list[bytes]:
    """One signature per signer over the pre-authentication encoding, in the order given."""
    message = pae(payload_type, body)
    return [signer.sign(message) for signer in signers]


def verify(
    payload_type: str, body: bytes, signatures: Sequence[bytes], keys: Sequence[PublicKey]
) -> None:
    """Check that every key signed: the n-th signature by the n-th key, each key once.

    Raises:
        SignatureError: another number of signatures than keys, a key twice, none at all, or one
            that does not hold.
    """
    if not keys or len(signatures) != len(keys):
        raise SignatureError(f"{len(signatures)} signatures for {len(keys)} signers")
    if len({key.fingerprint for key in keys}) != len(keys):
        raise SignatureError("a key signs twice")
    message = pae(payload_type, body)
    for signature, key in zip(signatures, keys, strict=True):
        key.verify(signature, message)
