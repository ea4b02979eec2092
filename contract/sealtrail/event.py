"""One event: the record that services fill, and its caps."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple

from sealtrail import avro, ids
from sealtrail.errors import EventError, MalformedError

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
            if not ids.is_event_id(parent.event_id):
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
