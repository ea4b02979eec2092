"""One event: the record that services fill, and its caps."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from sealtrail import avro
from sealtrail.errors import EventError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_EVENT_BYTES = 512 * 1024
MAX_PARENTS = 64
MAX_ENTITIES = 2048
MAX_ATTRIBUTES = 64
MAX_PROTECTED = 32
COMMITMENT_TAG = b"sealtrail/commitment/v1\x00"
TOMBSTONE_ACTIVITY = "sealtrail.encoding-failed"
# 0001-01-01 and 9999-12-31: no calendar of our users (Python, ClickHouse, Java) goes beyond.
MIN_MICROS, MAX_MICROS = -62_135_596_800_000_000, 253_402_300_799_999_999


class EventType(StrEnum):
    """The events of the lineage model."""

    UNKNOWN = "UNKNOWN"
    CREATE = "CREATE"
    TRANSFORM = "TRANSFORM"
    AGGREGATE = "AGGREGATE"
    TRANSMIT = "TRANSMIT"
    RECEIVE = "RECEIVE"
    ACCESS = "ACCESS"
    ARCHIVE = "ARCHIVE"
    RESTORE = "RESTORE"
    DELETE = "DELETE"
    ATTEST = "ATTEST"


class Importance(StrEnum):
    """Only AUXILIARY events may be sampled out."""

    ESSENTIAL = "ESSENTIAL"
    AUXILIARY = "AUXILIARY"


class ActorKind(StrEnum):
    """PROV agents."""

    UNKNOWN = "UNKNOWN"
    SERVICE = "SERVICE"
    HUMAN = "HUMAN"
    AUTOMATION = "AUTOMATION"


class ParentRef(NamedTuple):
    """A direct cause: id (16 bytes), occurred_at (microseconds) and leaf hash (32 bytes)."""

    event_id: bytes
    occurred_at: int
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class EntityRef:
    """A version of a dataset: OpenLineage namespace and name; digest is SHA-256, 32 bytes."""

    namespace: str
    name: str
    version: str | None = None
    digest: bytes | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """PROV agent; the id of a HUMAN is a tenant-keyed pseudonym."""

    id: str
    kind: ActorKind = ActorKind.SERVICE
    on_behalf_of: str | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """The code that ran."""

    repository: str
    revision: str
    image_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Protected:
    """A personal value under a key per subject."""

    subject: bytes
    key_id: bytes
    ciphertext: bytes


# Not frozen: that alone would add two microseconds to the five of an emit().
@dataclass(slots=True)
class ProvenanceEvent:
    """Field by field as schemas/avro/ProvenanceEvent.avsc; not to be changed once it is made.

    occurred_at in microseconds since 1970, salt 16 random bytes.
    """

    occurred_at: int
    salt: bytes
    event_type: EventType
    activity: str
    actor: Actor
    parents: tuple[ParentRef, ...] = ()
    importance: Importance = Importance.ESSENTIAL
    run_id: bytes | None = None
    inputs: tuple[EntityRef, ...] = ()
    outputs: tuple[EntityRef, ...] = ()
    code: Code | None = None
    trace_id: bytes | None = None
    span_id: bytes | None = None
    policy: str | None = None
    backfill: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    protected: tuple[Protected, ...] = ()
    commitments: tuple[bytes, ...] = ()

    def check(self) -> None:
        """Caps of docs/wire-format.md.

        Raises:
            EventError: one is exceeded.
        """
        if (
            len(self.parents) > MAX_PARENTS
            or len(self.inputs) + len(self.outputs) > MAX_ENTITIES
            or len(self.attributes) > MAX_ATTRIBUTES
            or len(self.protected) > MAX_PROTECTED
        ):
            raise self._too_many()
        time = self.occurred_at
        if type(time) is not int or not MIN_MICROS <= time <= MAX_MICROS:
            raise _no_time(time)
        for parent in self.parents:
            time = parent.occurred_at
            if type(time) is not int or not MIN_MICROS <= time <= MAX_MICROS:
                raise _no_time(time)
            if not _is_event_id(parent.event_id):
                raise EventError(
                    "a parent's id is no event id", hint="use the receipt's .reference"
                )
        if not isinstance(self.backfill, bool):
            raise EventError("backfill is not True or False")

    def _too_many(self) -> EventError:
        caps = (
            ("parents", len(self.parents), MAX_PARENTS),
            ("inputs and outputs", len(self.inputs) + len(self.outputs), MAX_ENTITIES),
            ("attributes", len(self.attributes), MAX_ATTRIBUTES),
            ("protected", len(self.protected), MAX_PROTECTED),
        )
        said = [f"{count} {name}, at most {cap}" for name, count, cap in caps if count > cap]
        return EventError(f"event has {'; '.join(said)}", hint="split it into child events")

    def encode(self) -> bytes:
        """Canonical Avro of the event.

        Raises:
            EventError: a cap is exceeded or a value does not fit.
        """
        try:
            self.check()
            data = avro.codec("ProvenanceEvent").encode(self.value())
        except MalformedError as error:
            raise EventError(f"event: {error.message}") from None
        except (AttributeError, TypeError) as error:
            raise EventError(f"event: a field has a value of another type: {error}") from None
        if len(data) > MAX_EVENT_BYTES:
            raise EventError(
                f"event has {len(data)} bytes, at most {MAX_EVENT_BYTES}",
                hint="split it into child events",
            )
        return data

    def value(self) -> dict[str, Any]:
        """The Avro record as plain values."""
        record = {name: getattr(self, name) for name in _NAMES}
        record["event_type"] = str(self.event_type)
        record["importance"] = str(self.importance)
        record["parents"] = [p._asdict() for p in self.parents]
        record["actor"] = avro.values(self.actor) | {"kind": str(self.actor.kind)}
        record["inputs"] = [avro.values(e) for e in self.inputs]
        record["outputs"] = [avro.values(e) for e in self.outputs]
        record["code"] = None if self.code is None else avro.values(self.code)
        record["protected"] = [avro.values(p) for p in self.protected]
        record["commitments"] = list(self.commitments)
        return record


def _no_time(time: Any) -> EventError:
    # Avro's writer would cut fractions off without a word.
    return EventError(
        f"occurred_at {time!r} is no time of the calendar",
        hint="whole microseconds since 1970-01-01 UTC",
    )


_NAMES = tuple(ProvenanceEvent.__dataclass_fields__)


def tombstone(occurred_at: int, salt: bytes, producer: str, reason: str) -> ProvenanceEvent:
    """What stands in the chain when an event could not be encoded after its id was given out."""
    return ProvenanceEvent(
        occurred_at=occurred_at,
        salt=salt,
        event_type=EventType.UNKNOWN,
        activity=TOMBSTONE_ACTIVITY,
        actor=Actor(producer),
        attributes={"reason": reason[:200]},
    )


def commitment(opening: bytes) -> bytes:
    """What an event says of a value that travels beside its batch: its hash, 32 bytes.

    Args:
        opening: 16 random bytes, then the value: without them short values could be guessed.

    Raises:
        EventError: no room for the random bytes.
    """
    if len(opening) < 16:
        raise EventError("an opening begins with 16 random bytes")
    return sha256(COMMITMENT_TAG + opening).digest()


def causal_prefix(data: bytes) -> tuple[int, list[ParentRef]]:
    """(occurred_at, parents) from the first two fields of an event, whatever its schema version.

    Written out, not by a schema: it is strict (minimal varints, one positive block), and it is the
    hot path.

    Raises:
        MalformedError: not decodable, not canonical, a time outside of the calendar, too many
            parents, or one whose id is no event id.
    """
    try:
        occurred_at, at = _long(data, 0)
        if not MIN_MICROS <= occurred_at <= MAX_MICROS:
            raise MalformedError("event: occurred_at is no time of the calendar")
        if data[at] == 0:
            return occurred_at, []
        count, at = _long(data, at)
        if not 0 < count <= MAX_PARENTS:
            raise MalformedError(f"event: block of {count} parents")
        parents = []
        for _ in range(count):
            event_id = data[at : at + 16]
            when, at = _long(data, at + 16)
            leaf = data[at : at + 32]
            at += 32
            if not MIN_MICROS <= when <= MAX_MICROS:
                raise MalformedError("event: a parent's time is no time of the calendar")
            if not _is_event_id(event_id):
                raise MalformedError("event: a parent's id is no event id")
            parents.append(ParentRef(event_id, when, leaf))
        if data[at] != 0:
            raise MalformedError("event: parents are not one block")
    except IndexError:
        raise MalformedError("event: ends within its first two fields") from None
    return occurred_at, parents


_TIME = rb"([\x80-\xff]{7}[\x01-\x7f])"
# What nearly all events begin with: a time of eight bytes (1979 to 3111), and no parent or one.
_USUAL = re.compile(
    _TIME + rb"(?:\x00|\x02(.{6}[\x80-\x8f].[\x80-\xbf].{7})" + _TIME + rb"(.{32})\x00)",
    re.DOTALL,
)


def causal_prefixes(
    events: Sequence[bytes],
) -> tuple[tuple[int, ...], tuple[tuple[ParentRef, ...], ...]]:
    """`causal_prefix` of many events: their times, and their parents.

    Raises:
        MalformedError: as `causal_prefix`; says of which event.
    """
    times: list[int] = []
    parents: list[tuple[ParentRef, ...]] = []
    # Times repeat: an event's parent is mostly the event before. Of all times within 8 ms only the
    # first two bytes differ.
    known: dict[bytes, int] = {}
    bases: dict[bytes, int] = {}
    match, nothing = _USUAL.match, ()
    # A named tuple's own way to be made takes twice as long; this runs for every event.
    new = tuple.__new__
    for index, event in enumerate(events):
        found = match(event)
        if found is None:
            try:
                time, causes = causal_prefix(event)
            except MalformedError as error:
                raise MalformedError(f"event {index}: {error.message}") from None
            times.append(time)
            parents.append(tuple(causes))
            continue
        when, event_id, parent_when, leaf = found.groups()
        at = known.get(when)
        if at is None:
            at = known[when] = _usual_time(when, bases)
        times.append(at)
        if event_id is None:
            parents.append(nothing)
            continue
        parent_at = known.get(parent_when)
        if parent_at is None:
            parent_at = known[parent_when] = _usual_time(parent_when, bases)
        parents.append((new(ParentRef, (event_id, parent_at, leaf)),))
    return tuple(times), tuple(parents)


def _usual_time(varint: bytes, bases: dict[bytes, int]) -> int:
    """The value of a zig-zag varint of eight bytes; bases: by the upper six, kept by the caller."""
    high = varint[2:]
    base = bases.get(high)
    if base is None:
        base = bases[high] = sum((byte & 0x7F) << 7 * n for n, byte in enumerate(high, 2))
    number = base | (varint[1] & 0x7F) << 7 | varint[0] & 0x7F
    return (number >> 1) ^ -(number & 1)


def _is_event_id(value: bytes) -> bool:
    """Whether 16 bytes are a UUID of version 8 (RFC 9562 section 5.8)."""
    return len(value) == 16 and value[6] >> 4 == 8 and value[8] >> 6 == 2


def _long(data: bytes, at: int) -> tuple[int, int]:
    """A minimal zig-zag varint (Avro specification, "Binary Encoding") and where it ends."""
    start = at
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise MalformedError("event: varint is too long")
    if (byte == 0 and at - start > 1) or number >= 1 << 64:
        raise MalformedError("event: varint is not minimal")
    return (number >> 1) ^ -(number & 1), at
