"""Keys in a PKCS#11 token (SoftHSM, a smart card, an HSM), named as in RFC 7512.

Ed25519 by CKM_EDDSA without parameters (PKCS#11 v3.0 section 2.3.14): the message goes in whole. A
process logs into a token once: its keys share a session, held by one thread at a time. It is opened
again when the token lost it, and in a forked child, where the module must be initialised anew.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pkcs11
from pkcs11 import Attribute, Mechanism, ObjectClass
from pkcs11 import exceptions as refusals

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail.keys import PublicKey
from sealtrail_producer.signing import read_private

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealtrail_producer.settings import ProducerSettings
    from sealtrail_producer.signers import KeyUri

# Where Debian's softhsm2 puts its module.
DEFAULT_MODULE = "/usr/lib/softhsm/libsofthsm2.so"
# What no other session mends.
_WRONG = (
    refusals.NoSuchKey,
    refusals.NoSuchToken,
    refusals.MultipleObjectsReturned,
    refusals.MultipleTokensReturned,
    refusals.PinIncorrect,
    refusals.PinLocked,
    refusals.PinInvalid,
    refusals.PinLenRange,
    refusals.KeyTypeInconsistent,
    refusals.MechanismInvalid,
)


def connect(uri: KeyUri, settings: ProducerSettings) -> Token:
    """Open the token that a URI names."""
    names = uri.attributes()
    label = names.get("object", "")
    if not names.get("token") or not (label or names.get("id")):
        raise ConfigurationError(
            f"pkcs11:{uri.path} names no token and object",
            hint="pkcs11:token=LABEL;object=LABEL?module-path=/path/to/module.so",
        )
    return Token(
        uri.query.get("module-path", DEFAULT_MODULE),
        names["token"],
        label,
        names.get("id", "").encode("latin-1", "replace"),
        _pin(uri, settings),
    )


def _pin(uri: KeyUri, settings: ProducerSettings) -> str:
    """The user's PIN: of the setting, else the first line of the file that pin-source names."""
    given = settings.pkcs11_pin.get_secret_value()
    source = uri.query.get("pin-source", "")
    if given or not source:
        if "pin-value" in uri.query:
            raise ConfigurationError(
                "a PIN in a URI would be seen by everybody",
                hint="set SEALTRAIL_PKCS11_PIN, or name a file with pin-source",
            )
        return given
    lines = read_private(Path(urlsplit(source).path)).decode(errors="replace").splitlines()
    return lines[0] if lines else ""


class _Session:
    """A login into one token, shared by its keys; opened when it is needed first."""

    def __init__(self, module: str, token: str) -> None:
        self.lock = threading.Lock()
        self._module = module
        self._token = token
        self._pid = 0
        self._open: Any = None

    def run(self, work: Callable[[Any], bytes], pin: str) -> bytes:
        """Do something with the session, once more with a new one when it was lost."""
        with self.lock:
            if self._pid == os.getpid():
                try:
                    return work(self._open)
                except _WRONG:
                    raise
                except refusals.PKCS11Error:
                    # The token was taken out or restarted: its session is gone either way.
                    with contextlib.suppress(refusals.PKCS11Error):
                        self._open.close()
            self._login(pin)
            return work(self._open)

    def _login(self, pin: str) -> None:
        self._pid = 0
        try:
            lib = pkcs11.lib(self._module)
        except (OSError, RuntimeError) as error:
            raise ConfigurationError(
                f"PKCS#11 module {self._module} cannot be loaded: {error}",
                hint="name it in the key's URI: ?module-path=/path/to/module.so",
            ) from None
        if _initialised.setdefault(self._module, os.getpid()) != os.getpid():
            lib.reinitialize()
            _initialised[self._module] = os.getpid()
        token = lib.get_token(token_label=self._token)
        try:
            self._open = token.open(user_pin=pin or None)
        except refusals.UserAlreadyLoggedIn:
            # By something else in this process; a login counts for all of it.
            self._open = token.open()
        self._pid = os.getpid()


# Which process initialised a module; sessions by (module, token).
_initialised: dict[str, int] = {}
_sessions: dict[tuple[str, str], _Session] = {}


class Token:
    """One key pair of one token."""

    def __init__(self, module: str, token: str, label: str, id_: bytes, pin: str) -> None:
        self._where = f"token {token!r}, object {label or id_.hex()!r}"
        self._which: dict[str, Any] = {"label": label} if label else {}
        if id_:
            self._which["id"] = id_
        self._pin = pin
        self._session = _sessions.setdefault((module, token), _Session(module, token))

    def public_key(self) -> PublicKey:
        """The key pair's public half."""

        def read(session: Any) -> bytes:
            key = session.get_key(object_class=ObjectClass.PUBLIC_KEY, **self._which)
            return bytes(key[Attribute.EC_POINT])

        point = self._run(read)
        # A DER octet string around 32 bytes; some modules leave it out.
        raw = point[2:] if point[:2] == b"\x04\x20" and len(point) == 34 else point
        return PublicKey.from_raw(raw)

    def sign(self, message: bytes) -> bytes:
        """Sign the message as it is."""

        def signed(session: Any) -> bytes:
            key = session.get_key(object_class=ObjectClass.PRIVATE_KEY, **self._which)
            return bytes(key.sign(message, mechanism=Mechanism.EDDSA))

        return self._run(signed)

    def _run(self, work: Callable[[Any], bytes]) -> bytes:
        try:
            return self._session.run(work, self._pin)
        except _WRONG as error:
            raise ConfigurationError(
                f"{self._where}: {type(error).__name__}",
                hint="check labels, PIN (SEALTRAIL_PKCS11_PIN) and that the key may sign",
            ) from None
        except refusals.PKCS11Error as error:
            raise UnavailableError(
                f"{self._where}: {type(error).__name__}", hint="is the token there?"
            ) from None
