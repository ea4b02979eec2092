"""How events and entities are named in text: headers between services, command lines.

Header `sealtrail-parent` (docs/wire-format.md, "Context between services"): event id, occurred_at
and leaf hash, each in base64url without padding, joined by dots; occurred_at as 8 bytes, big-endian
microseconds.
"""

from __future__ import annotations

import base64
import binascii

from sealtrail import ids
from sealtrail.errors import EventError, MalformedError
from sealtrail.event import MAX_MICROS, MIN_MICROS, EntityRef, ParentRef

HEADER = "sealtrail-parent"


def format(reference: ParentRef) -> str:  # noqa: A001 - reads as reference.format(...)
    """The header's value for a reference."""
    time = reference.occurred_at.to_bytes(8, "big", signed=True)
    return ".".join(_encode(part) for part in (reference.event_id, time, reference.leaf_hash))


def parse(value: str) -> ParentRef:
    """The reference that a header's value names.

    Raises:
        EventError: it names none.
    """
    refused = EventError(
        "not a reference to an event", hint="it is written ID.TIME.LEAF, each in base64url"
    )
    try:
        event_id, time, leaf = (_decode(part) for part in value.strip().split("."))
        ids.parse(event_id)
    except (ValueError, binascii.Error, MalformedError):
        raise refused from None
    occurred_at = int.from_bytes(time, "big", signed=True)
    if len(time) != 8 or len(leaf) != 32 or not MIN_MICROS <= occurred_at <= MAX_MICROS:
        raise refused
    return ParentRef(event_id, occurred_at, leaf)


def entity(text: str) -> EntityRef:
    """An entity from NAMESPACE:NAME[@VERSION].

    A namespace that is a URL (s3://bucket, postgres://host:5432) ends at the last colon.

    Raises:
        EventError: there is no colon.
    """
    name, at, version = text.rpartition("@")
    if not at:
        name, version = text, ""
    namespace, colon, rest = name.rpartition(":") if "://" in name else name.partition(":")
    if not colon or not namespace or not rest:
        raise EventError(
            f"{text!r} is no entity", hint="write NAMESPACE:NAME or NAMESPACE:NAME@VERSION"
        )
    return EntityRef(namespace, rest, version or None)


def _encode(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def _decode(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
