"""Turns the arguments of emit() into an event, or says at once what is wrong with them.

All that can be seen without encoding is seen here: types, caps, lengths, ranges. An event that may
be larger than 512 KiB is encoded at once (`core`). What is left (text that is no Unicode) is found
when the event is encoded, and becomes a tombstone.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from sealtrail.errors import EventError
from sealtrail.event import (
    Actor,
    ActorKind,
    Code,
    EntityRef,
    ParentRef,
    Protected,
)
from sealtrail_producer.pending import Receipt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sealtrail.event import ProvenanceEvent

MAX_LONG = 2**63 - 1
# Bytes of an event without anything in it, roughly.
SMALLEST = 160
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


def choice(kind: type[E], value: E | str, name: str) -> E:
    """A member of an enum, or its name.

    Raises:
        EventError: there is no such member.
    """
    if type(value) is kind:
        return value
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(kind)
        raise EventError(
            f"{name} {value!r} is none of the contract", hint=f"one of {names}"
        ) from None


def micros(value: datetime | int, name: str = "occurred_at") -> int:
    """Microseconds since 1970 of a time.

    Args:
        value: a datetime with a time zone, or microseconds.
        name: for the error.

    Raises:
        EventError: no time, or one without a zone.
    """
    if type(value) is int:
        return value
    if not isinstance(value, datetime):
        raise EventError(f"{name} is a {type(value).__name__}", hint="a datetime or microseconds")
    if value.tzinfo is None:
        raise EventError(f"{name} has no time zone", hint="datetime.now(timezone.utc)")
    return (value - _EPOCH) // _MICROSECOND


def text(value: Any, name: str) -> str:
    """A string.

    Raises:
        EventError: it is none.
    """
    if not isinstance(value, str):
        raise EventError(f"{name} is a {type(value).__name__}", hint="it must be a string")
    return value


def fixed(value: Any, size: int, name: str) -> bytes:
    """Bytes of a length.

    Raises:
        EventError: they are not.
    """
    if not isinstance(value, bytes) or len(value) != size:
        raise EventError(f"{name} is not {size} bytes")
    return value


def optional_text(value: Any, name: str) -> None:
    """Check a string or None."""
    if value is not None:
        text(value, name)


def run(value: UUID | bytes | None) -> bytes | None:
    """A run id as its 16 bytes."""
    if value is None or (isinstance(value, bytes) and len(value) == 16):
        return value
    return value.bytes if isinstance(value, UUID) else fixed(value, 16, "run_id")


def who(value: Actor | str) -> Actor:
    """The actor that was given; a string is the id of a service."""
    # Of an actor as it should be nothing is asked by name: a call takes as long as all of this.
    if (
        type(value) is Actor
        and type(value.id) is str
        and type(value.kind) is ActorKind
        and value.on_behalf_of is None
    ):
        return value
    if isinstance(value, str):
        return Actor(value)
    if not isinstance(value, Actor):
        raise EventError(
            f"actor is a {type(value).__name__}", hint="an Actor or the id of a service"
        )
    text(value.id, "actor.id")
    optional_text(value.on_behalf_of, "actor.on_behalf_of")
    choice(ActorKind, value.kind, "actor.kind")
    return value


def listed(values: Iterable[T], name: str) -> tuple[T, ...]:
    """The values, in order.

    Raises:
        EventError: it is nothing that holds values.
    """
    try:
        return tuple(values)
    except TypeError:
        raise EventError(f"{name} is a {type(values).__name__}", hint="give a list") from None


def entities(values: Iterable[Any], name: str) -> tuple[tuple[EntityRef, ...], int]:
    """Inputs or outputs, each field checked, and roughly their bytes in an event.

    Written out, for it runs twice in each emit(): a call takes as long as a check.
    """
    # Any: callers need not have checked their types.
    space: Any
    own: Any
    version: Any
    digest: Any
    size: Any
    found: tuple[Any, ...] = values if type(values) is tuple else listed(values, name)
    total = 64 * len(found)
    for entity in found:
        if not isinstance(entity, EntityRef):
            raise EventError(f"{name} holds a {type(entity).__name__}", hint="it takes EntityRef")
        space, own, version = entity.namespace, entity.name, entity.version
        digest, size = entity.digest, entity.size_bytes
        if not (
            isinstance(space, str)
            and isinstance(own, str)
            and (version is None or isinstance(version, str))
            and (digest is None or (isinstance(digest, bytes) and len(digest) == 32))
            and (size is None or (type(size) is int and 0 <= size <= MAX_LONG))
        ):
            raise _no_entity(entity, name)
        total += len(space) + len(own)
        if version is not None:
            total += len(version)
    return found, total


def _no_entity(entity: Any, name: str) -> EventError:
    """What is wrong with an entity; names are put together only when something is."""
    try:
        text(entity.namespace, f"{name}.namespace")
        text(entity.name, f"{name}.name")
        optional_text(entity.version, f"{name}.version")
        if entity.digest is not None:
            fixed(entity.digest, 32, f"{name}.digest")
    except EventError as error:
        return error
    return EventError(f"{name}.size_bytes {entity.size_bytes!r} is no size")


def parent_refs(values: Iterable[Receipt | ParentRef]) -> tuple[ParentRef, ...]:
    """Parents from receipts and references, each once, in order."""
    # It is a tuple, and would be taken for a list of three.
    if isinstance(values, ParentRef):
        raise EventError("parents is a ParentRef", hint="give a list")
    found: dict[ParentRef, None] = {}
    for value in listed(values, "parents"):
        if isinstance(value, Receipt):
            found.update(dict.fromkeys(value.references))
        elif isinstance(value, ParentRef):
            fixed(value.event_id, 16, "parents.event_id")
            fixed(value.leaf_hash, 32, "parents.leaf_hash")
            micros(value.occurred_at, "parents.occurred_at")
            found[value] = None
        else:
            raise EventError(
                f"parents holds a {type(value).__name__}", hint="it takes receipts and ParentRef"
            )
    return tuple(found)


def attribute_map(values: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """A copy of the attributes, and roughly their bytes in an event.

    A copy: what the caller changes later is not what was emitted.
    """
    try:
        found: dict[Any, Any] = dict(values)
    except (TypeError, ValueError):
        raise EventError("attributes are no mapping", hint="give names and values") from None
    size = 0
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, str):
            text(key, "a name of attributes")
            text(value, f"attribute {key!r}")
        size += 8 + len(key) + len(value)
    return found, size


def code_ref(value: Code | None) -> Code | None:
    """The code that ran."""
    if value is not None:
        if not isinstance(value, Code):
            raise EventError(f"code is a {type(value).__name__}", hint="it takes Code")
        text(value.repository, "code.repository")
        text(value.revision, "code.revision")
        optional_text(value.image_digest, "code.image_digest")
    return value


def protected_values(values: Iterable[Protected]) -> tuple[Protected, ...]:
    """Personal values under keys per subject."""
    found = listed(values, "protected")
    for value in found:
        if not isinstance(value, Protected):
            raise EventError("protected holds something else than Protected values")
        fixed(value.ciphertext, len(value.ciphertext), "protected.ciphertext")
        fixed(value.subject, 16, "protected.subject")
        fixed(value.key_id, 16, "protected.key_id")
    return found


def digests(values: Iterable[bytes], name: str) -> tuple[bytes, ...]:
    """SHA-256 digests."""
    return tuple([fixed(value, 32, name) for value in listed(values, name)])


def rare_size(event: ProvenanceEvent) -> int:
    """Roughly the bytes of what few events have, without encoding; never less than its characters.

    What each has (activity, actor, entities, attributes) is counted as it is checked.
    """
    size = 60 * len(event.parents) + 34 * len(event.commitments)
    for personal in event.protected:
        size += 40 + len(personal.ciphertext)
    if event.policy is not None:
        size += len(event.policy)
    if event.code is not None:
        size += len(event.code.repository) + len(event.code.revision)
        size += len(event.code.image_digest or "")
    if event.actor.on_behalf_of is not None:
        size += len(event.actor.on_behalf_of)
    return size
