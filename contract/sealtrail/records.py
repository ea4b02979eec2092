"""Key records and schema pins: what operators sign, and the directory that batches are judged by.

Rules:
- a record counts when a threshold of the operators in force at its arrival signed it (`trust`);
- the highest version of a key wins, revocation is terminal, an older version or a copy changes
  nothing;
- a batch that arrived at t is judged with exactly the records that arrived at or before t.

I/O is not handled here.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sealtrail import avro, dsse
from sealtrail.errors import ContractError, MalformedError
from sealtrail.keys import public_key
from sealtrail.statement import ZERO
from sealtrail.trust import Roots, TrustRoot

if TYPE_CHECKING:
    from collections.abc import Sequence

# A retired or expired key's batches may still lie in a spool: how long after its end they are
# taken, microseconds.
SPOOL_GRACE_US = 7 * 86_400 * 1_000_000
# A record holds a schema of 64 KiB or a key, and a few signatures.
MAX_RECORD_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Revocation:
    """End of a key: time in microseconds since 1970, reason RETIRED or COMPROMISED."""

    time: int
    reason: str


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What a key may sign, as schemas/avro/KeyRecord.avsc; times in microseconds since 1970."""

    fingerprint: bytes
    version: int
    previous: bytes
    algorithm: str
    public_key: bytes
    producer: str
    tenant: str
    environment: str
    topics: tuple[str, ...]
    valid_from: int
    valid_until: int | None = None
    revocation: Revocation | None = None

    def encode(self) -> bytes:
        """Canonical Avro, the bytes that operators sign."""
        value = avro.values(self) | {"topics": list(self.topics)}
        value["revocation"] = None if self.revocation is None else avro.values(self.revocation)
        return avro.codec("KeyRecord").encode(value)

    @classmethod
    def decode(cls, data: bytes) -> KeyRecord:
        """Read canonical bytes and check the record by itself.

        Raises:
            ContractError: malformed, not canonical, or a key that is refused.
        """
        value = avro.codec("KeyRecord").decode(data)
        end = value["revocation"]
        record = cls(
            **value
            | {
                "topics": tuple(value["topics"]),
                "revocation": None if end is None else Revocation(**end),
            }
        )
        key = public_key(record.public_key)
        if key.fingerprint != record.fingerprint or key.algorithm != record.algorithm:
            raise MalformedError("key record: fingerprint or algorithm is not the key's")
        if record.version < 1 or (record.version == 1) != (record.previous == ZERO):
            raise MalformedError("key record: version and previous do not fit")
        if not record.topics or list(record.topics) != sorted(set(record.topics)):
            raise MalformedError("key record: topics are not sorted, or empty")
        return record


@dataclass(frozen=True, slots=True)
class SchemaPin:
    """An event schema that operators allow under a subject; valid_from in microseconds."""

    subject: str
    fingerprint: bytes
    valid_from: int
    schema: str

    def encode(self) -> bytes:
        """Canonical Avro, the bytes that operators sign."""
        return avro.codec("SchemaPin").encode(avro.values(self))

    @classmethod
    def decode(cls, data: bytes) -> SchemaPin:
        """Read canonical bytes; the schema is checked as hostile and must match its fingerprint.

        Raises:
            ContractError: malformed, not canonical or a schema that is refused.
        """
        pin = cls(**avro.codec("SchemaPin").decode(data))
        codec = avro.Codec(avro.parse_json(pin.schema))
        if codec.fingerprint != pin.fingerprint:
            raise MalformedError("schema pin: fingerprint is not the schema's")
        if not same_causal_prefix(codec.schema):
            raise MalformedError("schema pin: the first two fields are not the causal prefix")
        if any(str(field["name"]).startswith("_") for field in codec.schema["fields"]):
            # The store appends fields of such names to each record.
            raise MalformedError("schema pin: field names that begin with _ are the store's")
        return pin


Record = KeyRecord | SchemaPin | TrustRoot


def same_causal_prefix(schema: avro.Schema) -> bool:
    """Whether a schema's first two fields deeply equal the frozen ones, doc apart.

    Avro's own compatibility rules ignore the order of fields.
    """
    ours = avro.without(avro.load_schema("ProvenanceEvent"), "doc")
    theirs = avro.without(schema, "doc")
    if not isinstance(theirs, dict) or any(
        theirs.get(key) != ours[key] for key in ("type", "name", "namespace")
    ):
        return False
    return bool(theirs["fields"][:2] == ours["fields"][:2])


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """An operator-signed record: the Avro envelope on the keys topic (no Confluent framing)."""

    payload_type: str
    body: bytes
    signatures: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def sign(cls, record: Record, operators: Sequence[dsse.Signer]) -> SignedRecord:
        """Sign a record with operator keys."""
        return cls(_KINDS[type(record)], record.encode(), ()).signed(operators)

    def signed(self, operators: Sequence[dsse.Signer]) -> SignedRecord:
        """The same record with the signatures of more operators."""
        made = dsse.sign(self.payload_type, self.body, operators)
        fresh = {s.public_key.fingerprint: v for s, v in zip(operators, made, strict=True)}
        signatures = dict(self.signatures) | fresh
        return SignedRecord(self.payload_type, self.body, tuple(sorted(signatures.items())))

    def encode(self) -> bytes:
        """Canonical Avro of the envelope: the Kafka value."""
        signatures = [{"signer": s, "signature": v} for s, v in self.signatures]
        return avro.codec("SignedRecord").encode(
            {"payload_type": self.payload_type, "body": self.body, "signatures": signatures}
        )

    @classmethod
    def decode(cls, data: bytes) -> SignedRecord:
        """Read an envelope.

        Raises:
            ContractError: too large, malformed or not canonical.
        """
        if len(data) > MAX_RECORD_BYTES:
            raise MalformedError(
                f"signed record has {len(data)} bytes, more than {MAX_RECORD_BYTES}"
            )
        value = avro.codec("SignedRecord").decode(data)
        return cls(
            value["payload_type"],
            value["body"],
            tuple((s["signer"], s["signature"]) for s in value["signatures"]),
        )

    def read(self) -> Record:
        """The record, whoever signed it.

        Raises:
            ContractError: the record is bad.
        """
        if self.payload_type not in _READERS:
            raise MalformedError(
                f"signed record: payload type {self.payload_type!r} is not allowed"
            )
        record: Record = _READERS[self.payload_type].decode(self.body)
        return record

    def open(self, root: TrustRoot) -> Record:
        """The record, when enough operators signed it.

        A root must be the one that follows, signed by a threshold of its own operators, too.

        Raises:
            ContractError: the signatures do not reach the threshold, or the record is bad.
        """
        if self.payload_type == dsse.ROOT:
            following = Roots(root).add(self.body, self.signatures, 0)
            if following is None:
                raise MalformedError("trust root: not newer than the one in force")
            return following
        root.require(self.payload_type, self.body, self.signatures)
        return self.read()


_KINDS: dict[type, str] = {
    KeyRecord: dsse.KEY_RECORD,
    SchemaPin: dsse.SCHEMA_PIN,
    TrustRoot: dsse.ROOT,
}
_READERS: dict[str, Any] = {kind: record for record, kind in _KINDS.items()}


class Directory:
    """Roots, key records and pins by arrival; answers what was known at a time.

    Args:
        root: the pinned operator keys.
    """

    def __init__(self, root: TrustRoot) -> None:
        self.roots = Roots(root)
        self._keys: dict[bytes, list[tuple[int, int, bytes, KeyRecord]]] = {}
        self._pins: dict[bytes, list[tuple[int, SchemaPin]]] = {}
        self._seen: dict[bytes, int] = {}

    def add(self, value: bytes, arrival: int) -> Record | None:
        """Take a Kafka value of the keys topic.

        Args:
            value: a SignedRecord's bytes.
            arrival: microseconds since 1970. Of copies the earliest counts.

        Returns:
            The record when it is new, None for a copy.

        Raises:
            ContractError: it does not count, and why.
        """
        signed = SignedRecord.decode(value)
        digest = sha256(signed.body).digest()
        if self._seen.get(digest, arrival + 1) <= arrival:
            return None
        if signed.payload_type == dsse.ROOT:
            # Of a root the first arrival that is seen counts: what it let in stays in.
            root = self.roots.add(signed.body, signed.signatures, arrival)
            self._seen[digest] = min(arrival, self._seen.get(digest, arrival))
            return root
        record = signed.open(self.roots.at(arrival))
        if isinstance(record, SchemaPin):
            known = digest in self._seen
            self._pins.setdefault(record.fingerprint, []).append((arrival, record))
        else:
            assert isinstance(record, KeyRecord)
            known = self._add_key(record, digest, arrival)
        self._seen[digest] = arrival
        return None if known else record

    def seen(self, value: bytes) -> bool:
        """Whether the body of a Kafka value of the keys topic is known already.

        Raises:
            ContractError: it is no signed record.
        """
        return sha256(SignedRecord.decode(value).body).digest() in self._seen

    def _add_key(self, record: KeyRecord, digest: bytes, arrival: int) -> bool:
        held = self._keys.setdefault(record.fingerprint, [])
        for _, version, other, successor in held:
            if version == record.version and other != digest:
                raise MalformedError(f"key record: version {version} already says something else")
            before = version == record.version - 1 and other != record.previous
            after = version == record.version + 1 and digest != successor.previous
            if before or after:
                raise MalformedError("key record: previous is not the hash of the version before")
        known = any(other == digest for _, _, other, _ in held)
        held[:] = [entry for entry in held if entry[2] != digest]
        insort(held, (arrival, record.version, digest, record), key=lambda e: (e[0], e[1]))
        return known

    def key(self, fingerprint: bytes, at: int) -> KeyRecord | None:
        """The record of a key in force for what arrived at a time (microseconds since 1970)."""
        best: KeyRecord | None = None
        for arrival, _, _, record in self._keys.get(fingerprint, ()):
            if arrival > at:
                break
            if best is None or _supersedes(record, best):
                best = record
        return best

    def history(self, fingerprint: bytes) -> list[tuple[int, KeyRecord]]:
        """(arrival, record) of all that is known of a key, by arrival."""
        return [(arrival, record) for arrival, _, _, record in self._keys.get(fingerprint, ())]

    def pins(self, fingerprint: bytes, at: int) -> list[SchemaPin]:
        """The pins of a schema that had arrived at a time (microseconds since 1970)."""
        return [pin for arrival, pin in self._pins.get(fingerprint, ()) if arrival <= at]

    def schema(self, fingerprint: bytes) -> avro.Codec | None:
        """The codec of a pinned schema, whenever it arrived."""
        pins = self._pins.get(fingerprint)
        return codec_of(pins[0][1].schema) if pins else None

    def keys(self) -> list[KeyRecord]:
        """Every key's newest record."""
        newest = (self.key(f, 2**63 - 1) for f in self._keys)
        return [record for record in newest if record is not None]


def _supersedes(record: KeyRecord, held: KeyRecord) -> bool:
    """Whether a record that arrived later takes the place of the one in force.

    Revocation is terminal, whatever its version; but a retired key may be found out later.
    """
    if held.revocation is None:
        return record.revocation is not None or record.version > held.version
    if record.revocation is None or record.revocation.reason != "COMPROMISED":
        return False
    worse = held.revocation.reason == "RETIRED"
    return worse or record.revocation.time < held.revocation.time


_CODECS: dict[str, avro.Codec] = {}


def codec_of(schema: str) -> avro.Codec:
    """The codec of a schema text, remembered (pinned schemas are few and signed)."""
    if schema not in _CODECS:
        _CODECS[schema] = avro.Codec(avro.parse_json(schema))
    return _CODECS[schema]


__all__ = [
    "SPOOL_GRACE_US",
    "ContractError",
    "Directory",
    "KeyRecord",
    "Record",
    "Revocation",
    "SchemaPin",
    "SignedRecord",
    "TrustRoot",
    "codec_of",
    "same_causal_prefix",
]
