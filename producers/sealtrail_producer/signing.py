"""Private keys in encrypted PKCS#8 files (RFC 5958, PBES2 of RFC 8018); Ed25519 and ML-DSA-44.

A file that its group or others can read is refused, as ssh does: whoever reads it can speak for the
producer.
"""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from sealtrail.keys import Algorithm, PublicKey
from sealtrail_producer.errors import KeyFileError
from sealtrail_producer.files import write_private

if TYPE_CHECKING:
    from pathlib import Path

PrivateKey = ed25519.Ed25519PrivateKey | mldsa.MLDSA44PrivateKey


class KeySigner:
    """Signs with a private key in memory (satisfies `sealtrail.dsse.Signer`)."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self._public = PublicKey.from_der(
            key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    @classmethod
    def generate(cls, algorithm: Algorithm = Algorithm.ED25519) -> KeySigner:
        """A fresh key."""
        if algorithm is Algorithm.ED25519:
            return cls(ed25519.Ed25519PrivateKey.generate())
        return cls(mldsa.MLDSA44PrivateKey.generate())

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Sign the message as it is."""
        return self._key.sign(message)

    def to_pem(self, passphrase: bytes) -> bytes:
        """Encrypted PKCS#8, PEM."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase),
        )

    def __repr__(self) -> str:
        return f"KeySigner({self._public!r})"


def load(file: Path, passphrase: bytes) -> KeySigner:
    """Read an encrypted key file.

    Raises:
        KeyFileError: missing, open to others, not encrypted, wrong passphrase or another algorithm.
    """
    data = read_private(file)
    if b"ENCRYPTED PRIVATE KEY" not in data:
        raise KeyFileError(
            f"{file} is not an encrypted PKCS#8 key",
            hint="make one with: sealtrail keys new",
        )
    try:
        key = serialization.load_pem_private_key(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError(
            f"{file} cannot be decrypted",
            hint="check SEALTRAIL_KEY_PASSPHRASE or SEALTRAIL_KEY_PASSPHRASE_FILE",
        ) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey | mldsa.MLDSA44PrivateKey):
        raise KeyFileError(
            f"{file} holds a {type(key).__name__}", hint="use an Ed25519 or ML-DSA-44 key"
        )
    return KeySigner(key)


def read_private(file: Path) -> bytes:
    """Bytes of a file that nobody else can read.

    Raises:
        KeyFileError: missing, unreadable, or open to group or others.
    """
    try:
        # Looked at through the descriptor that is read: the path may change in between.
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise KeyFileError(
                    f"{file} is open to other users (mode {stat.S_IMODE(mode):04o})",
                    hint=f"chmod 600 {file}",
                )
            return stream.read()
    except FileNotFoundError:
        raise KeyFileError(
            f"key file {file} does not exist",
            hint="make one with: sealtrail keys new; to try things out: sealtrail keys setup-dev",
        ) from None
    except OSError as error:
        raise KeyFileError(f"{file} cannot be read: {error.strerror}") from None


def passphrase(given: str, file: Path) -> bytes:
    """The passphrase that was given, else the first line of a file that nobody else can read.

    Raises:
        KeyFileError: neither is there.
    """
    if given:
        return given.encode()
    if not file.exists():
        raise KeyFileError(
            f"no passphrase for the key: {file} does not exist",
            hint="set SEALTRAIL_KEY_PASSPHRASE or SEALTRAIL_KEY_PASSPHRASE_FILE",
        )
    lines = read_private(file).splitlines()
    if not lines or not lines[0]:
        raise KeyFileError(f"passphrase file {file} is empty")
    return lines[0]


def new_file(file: Path, given: str, algorithm: Algorithm = Algorithm.ED25519) -> KeySigner:
    """Make a key file, and a passphrase file beside it unless a passphrase is given.

    Raises:
        KeyFileError: the file exists.
    """
    if file.exists():
        raise KeyFileError(
            f"{file} exists already", hint="name another file; keys are never overwritten"
        )
    secret = given.encode()
    if not secret:
        secret = secrets.token_urlsafe(32).encode()
        write_private(file.with_suffix(".pass"), secret + b"\n")
    signer = KeySigner.generate(algorithm)
    write_private(file, signer.to_pem(secret))
    return signer
