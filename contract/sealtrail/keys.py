"""Public keys, their fingerprints, and what is never trusted.

- fingerprint = SHA-256 of the DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), all 32 bytes;
- the algorithm belongs to the key, never to a message;
- Ed25519 keys of small order, non-canonical ones and what is no point of the curve are refused
  (RFC 8032 section 5.1.3): `cryptography` takes them all, and a signature by a key of small order
  can hold for many messages.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from sealtrail.errors import KeyRefusedError, SignatureError

_P = 2**255 - 19
_Y8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_D = -121665 * pow(121666, -1, _P) % _P
# Canonical y-coordinates of the points whose order divides eight; both signs of x are refused.
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})


class Algorithm(StrEnum):
    """Signature algorithms: Ed25519 (RFC 8032) and ML-DSA-44 (FIPS 204)."""

    ED25519 = "ED25519"
    ML_DSA_44 = "ML_DSA_44"


RAW_BYTES = {Algorithm.ED25519: 32, Algorithm.ML_DSA_44: 1312}
SIGNATURE_BYTES = {Algorithm.ED25519: 64, Algorithm.ML_DSA_44: 2420}


class PublicKey:
    """A public key that passed the checks of this module.

    Args:
        algorithm: its algorithm.
        key: the library's key object.
    """

    __slots__ = ("_key", "algorithm", "der", "fingerprint")

    def __init__(
        self, algorithm: Algorithm, key: ed25519.Ed25519PublicKey | mldsa.MLDSA44PublicKey
    ) -> None:
        self.algorithm = algorithm
        self._key = key
        self.der = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.fingerprint = sha256(self.der).digest()
        if algorithm is Algorithm.ED25519:
            _refuse_weak_ed25519(self.der[-32:])

    @classmethod
    def from_raw(cls, raw: bytes, algorithm: Algorithm = Algorithm.ED25519) -> PublicKey:
        """A key from its raw encoding (RFC 8032 section 5.1.5, 32 bytes; FIPS 204, 1,312 bytes).

        Raises:
            KeyRefusedError: wrong length, not a key, small order or not canonical.
        """
        if len(raw) != RAW_BYTES[algorithm]:
            raise KeyRefusedError(
                f"{algorithm} key has {len(raw)} bytes, not {RAW_BYTES[algorithm]}"
            )
        try:
            if algorithm is Algorithm.ED25519:
                return cls(algorithm, ed25519.Ed25519PublicKey.from_public_bytes(raw))
            return cls(algorithm, mldsa.MLDSA44PublicKey.from_public_bytes(raw))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyRefusedError(f"not a {algorithm} key: {error}") from None

    @classmethod
    def from_der(cls, der: bytes) -> PublicKey:
        """A key from its DER SubjectPublicKeyInfo.

        Raises:
            KeyRefusedError: not DER, not canonical DER, an algorithm that is not ours, or a weak
                key.
        """
        try:
            key = serialization.load_der_public_key(der)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyRefusedError(f"not a SubjectPublicKeyInfo: {error}") from None
        if isinstance(key, ed25519.Ed25519PublicKey):
            public = cls(Algorithm.ED25519, key)
        elif isinstance(key, mldsa.MLDSA44PublicKey):
            public = cls(Algorithm.ML_DSA_44, key)
        else:
            raise KeyRefusedError(f"{type(key).__name__} is not an algorithm of this contract")
        if public.der != der:
            # Two encodings of one key would be two fingerprints.
            raise KeyRefusedError("SubjectPublicKeyInfo is not in canonical DER")
        return public

    @property
    def raw(self) -> bytes:
        """The raw encoding, 32 or 1,312 bytes."""
        return self._key.public_bytes_raw()

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a signature over a message.

        Raises:
            SignatureError: it does not hold.
        """
        if len(signature) != SIGNATURE_BYTES[self.algorithm]:
            raise SignatureError(f"{self.algorithm} signature has {len(signature)} bytes")
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            raise SignatureError(f"{self.algorithm} signature does not hold") from None

    def __repr__(self) -> str:
        return f"PublicKey({self.algorithm}, {self.fingerprint.hex()[:16]})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def _refuse_weak_ed25519(raw: bytes) -> None:
    number = int.from_bytes(raw, "little")
    y = number & (2**255 - 1)
    if y >= _P:
        raise KeyRefusedError("Ed25519 key is not canonical (y is not below 2^255-19)")
    if y in _SMALL_ORDER_Y:
        raise KeyRefusedError("Ed25519 key has small order")
    # RFC 8032 section 5.1.3: x^2 = (y^2 - 1) / (d y^2 + 1) must have a root.
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if pow(square, (_P - 1) // 2, _P) != 1:
        raise KeyRefusedError("Ed25519 key is no point of the curve")


@lru_cache(maxsize=4096)
def public_key(der: bytes) -> PublicKey:
    """`PublicKey.from_der`, remembered: a worker meets the same keys again and again."""
    return PublicKey.from_der(der)
