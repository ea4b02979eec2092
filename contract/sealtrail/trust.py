"""Operators: the pinned trust root, and the roots that follow it as TUF's do.

Rules (docs/wire-format.md, "Trust roots"; TUF specification section 5.3):
- verifiers pin one root in a file; later ones are signed records that they find on the keys topic;
- version N + 1 counts when a threshold of the keys of N *and* a threshold of its own keys signed
  it, and it names the hash of N; nothing is skipped, nothing goes back;
- a record that arrived at t is judged by the root in force at t: what counted then counts for ever,
  and what operators of an earlier root sign afterwards counts no more.

I/O is not handled here.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail import avro, dsse
from sealtrail.errors import (
    MISSHAPEN,
    ConfigurationError,
    KeyRefusedError,
    MalformedError,
    NotCanonicalError,
    SignatureError,
)
from sealtrail.keys import PublicKey, public_key
from sealtrail.statement import ZERO

if TYPE_CHECKING:
    from collections.abc import Sequence

# Operators are people or modules; a root with more of them is a mistake.
MAX_OPERATORS = 32
ROOT_HINT = "make one with: sealtrail keys init-root"
Signatures = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """The operator keys and how many of them must sign.

    version: 1 is the first; previous: SHA-256 of the body of the version before, zeros in it.

    Raises:
        ConfigurationError: no key, a key twice, a threshold that cannot be met or means nothing, or
            version and previous that do not fit.
    """

    threshold: int
    keys: tuple[PublicKey, ...]
    version: int = 1
    previous: bytes = ZERO

    def __post_init__(self) -> None:
        distinct = len(set(self.keys))
        # JSON may say 1.5 or true.
        whole = type(self.threshold) is int and type(self.version) is int
        fits = whole and 1 <= self.threshold <= distinct == len(self.keys) <= MAX_OPERATORS
        if not fits:
            raise ConfigurationError(
                "trust root: threshold and distinct keys do not fit", hint=ROOT_HINT
            )
        if self.version < 1 or (self.version == 1) != (self.previous == ZERO):
            raise ConfigurationError("trust root: version and previous do not fit", hint=ROOT_HINT)

    def to_json(self) -> str:
        """The text of a trust root file."""
        keys = [base64.b64encode(k.der).decode() for k in self.keys]
        value: dict[str, object] = {"threshold": self.threshold, "keys": keys}
        if self.version > 1:
            value |= {"version": self.version, "previous": self.previous.hex()}
        return json.dumps(value, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TrustRoot:
        """Read a trust root file.

        Raises:
            ConfigurationError: it is not one.
        """
        try:
            value = json.loads(text)
            keys = tuple(
                PublicKey.from_der(base64.b64decode(k, validate=True)) for k in value["keys"]
            )
            threshold, version = value["threshold"], value.get("version", 1)
            previous = bytes.fromhex(value.get("previous", ZERO.hex()))
        except (*MISSHAPEN, KeyRefusedError) as error:
            raise ConfigurationError(
                f"trust root cannot be read: {error}", hint=ROOT_HINT
            ) from None
        return cls(threshold, keys, version, previous)

    def encode(self) -> bytes:
        """Canonical Avro, the bytes that operators sign."""
        keys = sorted(self.keys, key=lambda k: k.fingerprint)
        return avro.codec("TrustRoot").encode(
            {
                "version": self.version,
                "previous": self.previous,
                "threshold": self.threshold,
                "keys": [k.der for k in keys],
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> TrustRoot:
        """Read canonical bytes and check the root by itself.

        Raises:
            ContractError: malformed, not canonical, or a root that means nothing.
        """
        value = avro.codec("TrustRoot").decode(data)
        if len(value["keys"]) > MAX_OPERATORS:
            raise MalformedError(f"trust root: more than {MAX_OPERATORS} keys")
        keys = tuple(public_key(der) for der in value["keys"])
        if list(keys) != sorted(keys, key=lambda k: k.fingerprint):
            raise NotCanonicalError("trust root: keys are not sorted by fingerprint")
        try:
            return cls(value["threshold"], keys, value["version"], value["previous"])
        except ConfigurationError as error:
            raise MalformedError(error.message) from None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the body: what the next version names."""
        return sha256(self.encode()).digest()

    def successor(self, threshold: int, keys: Sequence[PublicKey]) -> TrustRoot:
        """The next version, not signed yet.

        Raises:
            ConfigurationError: threshold and keys do not fit.
        """
        return TrustRoot(threshold, tuple(keys), self.version + 1, self.digest)

    def signed_by(self, payload_type: str, body: bytes, signatures: Signatures) -> int:
        """How many of these operators signed; each counts once.

        Raises:
            NotCanonicalError: signers are not ascending, or one stands twice.
            SignatureError: a signature of one of these operators does not hold.
        """
        signers = [signer for signer, _ in signatures]
        if signers != sorted(set(signers)):
            raise NotCanonicalError("signed record: signers are not sorted, or one stands twice")
        operators = {k.fingerprint: k for k in self.keys}
        message = dsse.pae(payload_type, body)
        ours = [(operators[signer], s) for signer, s in signatures if signer in operators]
        for key, signature in ours:
            key.verify(signature, message)
        return len(ours)

    def require(self, payload_type: str, body: bytes, signatures: Signatures) -> None:
        """Check that a threshold of these operators signed.

        Raises:
            ContractError: they did not, or a signature of theirs does not hold.
        """
        good = self.signed_by(payload_type, body, signatures)
        if good < self.threshold:
            raise SignatureError(
                f"signed record: {good} operator signatures, {self.threshold} needed"
            )


class Roots:
    """The roots by arrival, from the pinned one on.

    Args:
        pinned: where trust begins; it was in force always.
    """

    def __init__(self, pinned: TrustRoot) -> None:
        self.pinned = pinned
        self._known: list[tuple[int, TrustRoot]] = [(-(2**63), pinned)]

    def copy(self) -> Roots:
        """A copy to try records on."""
        made = Roots(self.pinned)
        made._known = list(self._known)
        return made

    @property
    def newest(self) -> TrustRoot:
        """The root in force after all that is known."""
        return self._known[-1][1]

    @property
    def history(self) -> list[tuple[int, TrustRoot]]:
        """(arrival, root) of all, the pinned one first."""
        return list(self._known)

    def at(self, arrival: int) -> TrustRoot:
        """The root in force for what arrives at a time (microseconds since 1970)."""
        return next(root for at, root in reversed(self._known) if at <= arrival)

    def add(self, body: bytes, signatures: Signatures, arrival: int) -> TrustRoot | None:
        """Take a root record.

        Returns:
            The root when it is the next one; None for one that is known, or older than the pin.

        Raises:
            ContractError: it does not count, and why.
        """
        root = TrustRoot.decode(body)
        newest = self.newest
        if root.version < self.pinned.version:
            return None
        if root.version <= newest.version:
            if root != self._known[root.version - self.pinned.version][1]:
                raise MalformedError(
                    f"trust root: version {root.version} already says something else"
                )
            return None
        if root.version != newest.version + 1:
            raise MalformedError(f"trust root: version {newest.version + 1} is missing")
        if root.previous != newest.digest:
            raise MalformedError("trust root: previous is not the hash of the version before")
        newest.require(dsse.ROOT, body, signatures)
        root.require(dsse.ROOT, body, signatures)
        self._known.append((max(arrival, self._known[-1][0]), root))
        return root
