"""Validation of one message, steps 1 to 9 of docs/wire-format.md; the code is numbered alike.

(1) size and framing;
(2) envelope, payload type, signers readable;
(3) signers known, every signature good;
(4) statement canonical and consistent;
(5) environment, tenant, topic, partition ours;
(6) keys may speak for this producer here and then;
(7) event schema pinned, causal prefix intact;
(8) count and root;
(9) causal prefix of each event.

Steps 10 to 12 need state and live elsewhere: place in the chain (`sealtrail.chain`), parents,
clock.

Pure: everything that is known of keys and schemas comes in as a Directory, the arrival time as a
    number.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail import avro, dsse, ids, merkle
from sealtrail.batch import MAX_EVENTS, SignedBatch, unframe
from sealtrail.causal import Parents, causal_prefixes
from sealtrail.errors import ContractError, MalformedError, NotCanonicalError, SignatureError
from sealtrail.event import MAX_EVENT_BYTES
from sealtrail.findings import Code
from sealtrail.keys import PublicKey, public_key
from sealtrail.records import SPOOL_GRACE_US, Directory, KeyRecord
from sealtrail.statement import BatchStatement, Heartbeat, check_signers, read_signers

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message was read: what the statement must name."""

    environment: str
    tenants: Collection[str]
    topic: str
    partition: int

    @property
    def subject(self) -> str:
        """The subject that event schemas are pinned under."""
        return event_subject(self.topic)


def event_subject(topic: str) -> str:
    """Registry subject of a topic's event record schema.

    For provenance.events it is provenance.event-record-value (TopicNameStrategy's name,
    provenance.events-value, is the SignedBatch's).
    """
    return f"{topic.removesuffix('s')}-record-value"


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that did not pass: code, step of the list above, and what was wrong."""

    code: Code
    step: int
    detail: str


@dataclass(frozen=True, slots=True)
class VerifiedBatch:
    """A batch that passed steps 1 to 9.

    Per event: leaf hash (32 bytes), occurred_at (microseconds since 1970), parents.
    """

    envelope: SignedBatch
    statement: BatchStatement
    statement_hash: bytes
    leaf_hashes: tuple[bytes, ...]
    occurred_at: tuple[int, ...]
    parents: Parents
    schema: avro.Codec


@dataclass(frozen=True, slots=True)
class VerifiedHeartbeat:
    """A heartbeat whose signatures hold.

    Whether its keys speak for the chain's producer is seen at the chain
    (`sealtrail.chain.ChainState.speaks`).
    """

    heartbeat: Heartbeat
    keys: tuple[KeyRecord, ...]


Outcome = VerifiedBatch | VerifiedHeartbeat | Refused


class _Refusal(Exception):  # noqa: N818 - control flow within this module, never seen outside
    def __init__(self, code: Code, step: int, detail: str) -> None:
        super().__init__(detail)
        self.refused = Refused(code, step, detail)


def validate(
    value: bytes | None,
    place: Place,
    arrival: int,
    directory: Directory,
    *,
    known_at: int | None = None,
) -> Outcome:
    """Judge one message.

    Args:
        value: the Kafka value, None for a tombstone.
        place: where it was read.
        arrival: when it arrived, microseconds since 1970.
        directory: keys and schemas.
        known_at: records that arrived until then count; `arrival` unless given. A message that was
            parked and released keeps its arrival but is judged with what had arrived when it was
            released.

    Returns:
        What was verified, or why not. Never raises on any bytes.
    """
    known_at = arrival if known_at is None else known_at
    try:
        envelope = _open(value)
        if envelope.payload_type == dsse.HEARTBEAT:
            return _heartbeat(envelope, place, arrival, directory, known_at)
        return _batch(envelope, place, arrival, directory, known_at)
    except _Refusal as refusal:
        return refusal.refused


def _open(value: bytes | None) -> SignedBatch:
    if value is None:
        raise _Refusal(Code.MALFORMED, 1, "message has no value")
    # (1): size and framing. The schema id in the frame is a hint that nobody signed.
    try:
        _, body = unframe(value)
    except MalformedError as error:
        raise _Refusal(Code.MALFORMED, 1, error.message) from None
    # (2): envelope and payload type.
    try:
        envelope = SignedBatch.decode(body)
    except ContractError as error:
        raise _Refusal(Code.MALFORMED, 2, f"envelope {error.message}") from None
    if envelope.payload_type not in (dsse.BATCH, dsse.HEARTBEAT):
        raise _Refusal(
            Code.UNKNOWN_PAYLOAD_TYPE, 2, f"payload type {envelope.payload_type[:100]!r}"
        )
    if len(envelope.events) > MAX_EVENTS:
        raise _Refusal(Code.MALFORMED, 2, f"{len(envelope.events)} events in one batch")
    if envelope.payload_type == dsse.HEARTBEAT and (envelope.events or envelope.disclosures):
        raise _Refusal(Code.MALFORMED, 2, "a heartbeat holds no events")
    return envelope


def _signers(envelope: SignedBatch, directory: Directory, known_at: int) -> list[KeyRecord]:
    # (2): the statement names its signers; nothing else of it is read, for it is not believed yet.
    try:
        signers = read_signers(
            envelope.statement, names=0 if envelope.payload_type == dsse.HEARTBEAT else 6
        )
    except MalformedError as error:
        raise _Refusal(Code.MALFORMED, 2, error.message) from None
    # (3): signers known, every signature good.
    try:
        check_signers(signers)
    except MalformedError as error:
        raise _Refusal(Code.BAD_SIGNATURE, 3, error.message) from None
    records = []
    for fingerprint in signers:
        record = directory.key(fingerprint, known_at)
        if record is None:
            raise _Refusal(Code.UNKNOWN_KEY, 3, f"no record of key {fingerprint.hex()}")
        records.append(record)
    keys: list[PublicKey] = [public_key(r.public_key) for r in records]
    try:
        dsse.verify(envelope.payload_type, envelope.statement, envelope.signatures, keys)
    except SignatureError as error:
        raise _Refusal(Code.BAD_SIGNATURE, 3, error.message) from None
    return records


def _batch(
    envelope: SignedBatch, place: Place, arrival: int, directory: Directory, known_at: int
) -> VerifiedBatch:
    records = _signers(envelope, directory, known_at)
    # (4): statement canonical and consistent.
    try:
        statement = BatchStatement.decode(envelope.statement)
    except (MalformedError, NotCanonicalError) as error:
        raise _Refusal(Code.NOT_CANONICAL, 4, error.message) from None
    _ours(statement, place)  # (5)
    claim = _Claim(statement.producer, statement.tenant, statement.signed_at)
    for record in records:  # (6)
        _authorised(record, claim, place, arrival)
    codec = _schema(statement, place, arrival, directory, known_at)  # (7)
    # (8): count and root.
    if statement.count != len(envelope.events):
        raise _Refusal(
            Code.BAD_ROOT, 8, f"{len(envelope.events)} events, the statement says {statement.count}"
        )
    leaves = tuple([sha256(b"\x00" + event).digest() for event in envelope.events])
    if merkle.root(leaves) != statement.root:
        raise _Refusal(Code.BAD_ROOT, 8, "the events are not those of the signed root")
    # (9): causal prefix of each event.
    sizes = list(map(len, envelope.events))
    if max(sizes, default=0) > MAX_EVENT_BYTES:
        index, size = next((i, n) for i, n in enumerate(sizes) if n > MAX_EVENT_BYTES)
        raise _Refusal(Code.BAD_EVENT, 9, f"event {index} has {size} bytes")
    try:
        first_id = ids.template(statement.chain_id) + statement.first_seq
        times, parents = causal_prefixes(envelope.events, leaves, first_id)
    except MalformedError as error:
        raise _Refusal(Code.BAD_EVENT, 9, error.message) from None
    return VerifiedBatch(
        envelope,
        statement,
        sha256(envelope.statement).digest(),
        leaves,
        times,
        parents,
        codec,
    )


def _heartbeat(
    envelope: SignedBatch, place: Place, arrival: int, directory: Directory, known_at: int
) -> VerifiedHeartbeat:
    records = _signers(envelope, directory, known_at)
    try:  # (4)
        heartbeat = Heartbeat.decode(envelope.statement)
    except (MalformedError, NotCanonicalError) as error:
        raise _Refusal(Code.NOT_CANONICAL, 4, error.message) from None
    for record in records:  # (5): the chain id stands for environment, topic and partition.
        _served(record.tenant, place)
    first = records[0]
    claim = _Claim(first.producer, first.tenant, heartbeat.time)
    for record in records:  # (6)
        _authorised(record, claim, place, arrival)
    return VerifiedHeartbeat(heartbeat, tuple(records))


def _served(tenant: str, place: Place) -> None:
    if tenant not in place.tenants:
        raise _Refusal(Code.WRONG_TENANT, 5, f"tenant {tenant[:100]!r} is not served here")


def _ours(statement: BatchStatement, place: Place) -> None:
    if statement.environment != place.environment:
        raise _Refusal(
            Code.WRONG_ENVIRONMENT, 5, f"signed for environment {statement.environment[:100]!r}"
        )
    _served(statement.tenant, place)
    if statement.topic != place.topic:
        raise _Refusal(Code.WRONG_TOPIC, 5, f"signed for topic {statement.topic[:100]!r}")
    if statement.partition != place.partition:
        raise _Refusal(Code.WRONG_PARTITION, 5, f"signed for partition {statement.partition}")


@dataclass(frozen=True, slots=True)
class _Claim:
    """Who is said to speak, and when by its own clock (microseconds since 1970)."""

    producer: str
    tenant: str
    signed_at: int


def _authorised(record: KeyRecord, claim: _Claim, place: Place, arrival: int) -> None:
    """(6): by arrival; after a key's honest end the signer's clock decides, for a while."""
    name = record.fingerprint.hex()[:16]
    who = (record.producer, record.environment, record.tenant)
    if who != (claim.producer, place.environment, claim.tenant) or place.topic not in record.topics:
        detail = f"key {name} may not speak for {claim.producer[:100]!r} here"
        raise _Refusal(Code.KEY_NOT_AUTHORISED, 6, detail)
    if arrival < record.valid_from:
        raise _Refusal(Code.KEY_EXPIRED, 6, f"key {name} is not valid yet")
    end, until = record.revocation, record.valid_until
    if end is not None and end.reason == "COMPROMISED" and arrival >= end.time:
        raise _Refusal(Code.KEY_REVOKED, 6, f"key {name} is compromised")
    if end is not None and end.reason == "RETIRED" and _over(end.time, arrival, claim.signed_at):
        raise _Refusal(Code.KEY_REVOKED, 6, f"key {name} is retired")
    if until is not None and _over(until, arrival, claim.signed_at):
        raise _Refusal(Code.KEY_EXPIRED, 6, f"key {name} has expired")


def _over(end: int, arrival: int, signed_at: int) -> bool:
    """Whether a key that ended in honour no longer counts: spools may deliver for a while."""
    return arrival >= end and (signed_at >= end or arrival > end + SPOOL_GRACE_US)


def _schema(
    statement: BatchStatement, place: Place, arrival: int, directory: Directory, known_at: int
) -> avro.Codec:
    """(7): the fingerprint decides, never a registry id.

    A pin's causal prefix was checked when the pin was taken.
    """
    name = statement.event_schema.hex()[:16]
    pins = directory.pins(statement.event_schema, known_at)
    if not pins:
        raise _Refusal(
            Code.UNKNOWN_SCHEMA, 7, f"no record of event schema {statement.event_schema.hex()}"
        )
    for pin in pins:
        if pin.subject == place.subject and pin.valid_from <= arrival:
            codec = directory.schema(statement.event_schema)
            if codec is not None:
                return codec
    raise _Refusal(
        Code.SCHEMA_NOT_ALLOWED, 7, f"event schema {name} is not allowed under {place.subject}"
    )
