"""Signers whose private keys never leave their home: a token, a vault, a cloud's KMS.

A key is named by a URI; its scheme says who signs, and the module behind it is imported only then
(extra `signers`):

    pkcs11:token=LABEL;object=LABEL?module-path=FILE        RFC 7512, mechanism CKM_EDDSA
    vault:MOUNT/KEY[?version=N]                             transit engine, type ed25519
    aws-kms:KEY-ID-OR-ARN[?region=R&endpoint=URL]           ECC_NIST_EDWARDS25519, ED25519_SHA_512
    gcp-kms:projects/../cryptoKeyVersions/N[?endpoint=H:P]  EC_SIGN_ED25519

All of them sign the message as it is (no pre-hashing), with one fixed key: which version a name
meant is decided when it is opened. What comes back is verified before it is used: a module that
answers with the signature of another key is found here, not in quarantine.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, unquote

from sealtrail.errors import ConfigurationError, KeyRefusedError, SignatureError, UnavailableError
from sealtrail_producer.errors import KeyFileError, SigningError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sealtrail.keys import PublicKey
    from sealtrail_producer.settings import ProducerSettings

_MODULES = {
    "pkcs11": "sealtrail_producer.signers.token",
    "vault": "sealtrail_producer.signers.vault",
    "aws-kms": "sealtrail_producer.signers.aws",
    "gcp-kms": "sealtrail_producer.signers.gcp",
}


@dataclass(frozen=True, slots=True)
class KeyUri:
    """A key's name, taken apart: scheme:path?query."""

    scheme: str
    path: str
    query: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> KeyUri:
        """Read a key URI.

        Raises:
            ConfigurationError: it is none of ours.
        """
        scheme, colon, rest = text.partition(":")
        if not colon or scheme not in _MODULES:
            raise ConfigurationError(
                f"{text!r} names no key", hint=f"a file, or one of {', '.join(_MODULES)}: a URI"
            )
        path, _, query = rest.partition("?")
        found = dict(parse_qsl(query.replace(";", "&"), keep_blank_values=True))
        if not path:
            raise ConfigurationError(f"{text!r} names no key after {scheme}:")
        return cls(scheme, path, found)

    def attributes(self) -> dict[str, str]:
        """The path as name=value pairs between semicolons (RFC 7512 section 2.3)."""
        pairs = (part.partition("=") for part in self.path.split(";") if part)
        return {name: unquote(value) for name, _, value in pairs}


class Module(Protocol):
    """Who holds a key: one of the back ends."""

    def public_key(self) -> PublicKey:
        """The public half of the key.

        Raises:
            ConfigurationError: there is no such key, or it is of another algorithm.
            UnavailableError: it cannot be asked now.
        """

    def sign(self, message: bytes) -> bytes:
        """Sign the message as it is.

        Raises:
            UnavailableError: not now.
        """


class RemoteSigner:
    """A key that somebody else holds (satisfies `sealtrail.dsse.Signer`).

    Args:
        name: its URI, without any secret.
        module: who signs.
    """

    def __init__(self, name: str, module: Module) -> None:
        self.name = name
        self._module = module
        try:
            self._public = module.public_key()
        except KeyRefusedError as error:
            raise KeyFileError(f"{name}: {error.message}", hint="use an Ed25519 key") from None

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Sign the message as it is.

        Raises:
            SigningError: the module does not answer, or answers with another key's signature.
        """
        try:
            signature = self._module.sign(message)
            self._public.verify(signature, message)
        except SignatureError as error:
            raise SigningError(
                f"{self.name}: what came back is no signature of its key: {error.message}",
                hint="was the key replaced under the same name? register the new one",
            ) from None
        except UnavailableError as error:
            raise SigningError(f"{self.name}: {error.message}", hint=error.hint) from None
        return signature

    def __repr__(self) -> str:
        return f"RemoteSigner({self.name!r}, {self._public!r})"


def is_uri(reference: str) -> bool:
    """Whether a reference to a key is a URI and not a file."""
    return reference.partition(":")[0] in _MODULES


def open_uri(reference: str, settings: ProducerSettings) -> RemoteSigner:
    """Open the key behind a URI.

    Args:
        reference: the URI.
        settings: where modules are, and what opens them.

    Raises:
        ConfigurationError: the URI, the key or what opens it is wrong.
        UnavailableError: the module cannot be reached, or the extra is not installed.
    """
    uri = KeyUri.parse(reference)
    try:
        made: Module = import_module(_MODULES[uri.scheme]).connect(uri, settings)
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"{uri.scheme} keys need {error.name}, which is not installed",
            hint='pip install "sealtrail[signers]"',
        ) from error
    return RemoteSigner(reference, made)
