"""SDK for services: emit, batch, sign, spool, send; importers; example services.

from sealtrail_producer import Trail, EntityRef, TRANSFORM

with Trail.from_env(producer="orders") as trail:
    receipt = trail.emit("orders.enrich", event_type=TRANSFORM, inputs=[...], outputs=[...])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealtrail.event import (
    Actor,
    ActorKind,
    Code,
    EntityRef,
    EventType,
    Importance,
    ParentRef,
    Protected,
)
from sealtrail_producer.pending import Receipt
from sealtrail_producer.ports import Ports

if TYPE_CHECKING:
    from sealtrail_producer.core import Backlog
    from sealtrail_producer.trail import Trail

CREATE = EventType.CREATE
TRANSFORM = EventType.TRANSFORM
AGGREGATE = EventType.AGGREGATE
TRANSMIT = EventType.TRANSMIT
RECEIVE = EventType.RECEIVE
ACCESS = EventType.ACCESS
ARCHIVE = EventType.ARCHIVE
RESTORE = EventType.RESTORE
DELETE = EventType.DELETE
ATTEST = EventType.ATTEST
ESSENTIAL = Importance.ESSENTIAL
AUXILIARY = Importance.AUXILIARY

__all__ = [
    "ACCESS",
    "AGGREGATE",
    "ARCHIVE",
    "ATTEST",
    "AUXILIARY",
    "CREATE",
    "DELETE",
    "ESSENTIAL",
    "RECEIVE",
    "RESTORE",
    "TRANSFORM",
    "TRANSMIT",
    "Actor",
    "ActorKind",
    "Backlog",
    "Code",
    "EntityRef",
    "EventType",
    "Importance",
    "ParentRef",
    "Ports",
    "Protected",
    "Receipt",
    "Trail",
]


def __getattr__(name: str) -> object:
    """Load what needs the extra when it is asked for: this room's settings are read without it."""
    if name == "Trail":
        from sealtrail_producer import trail

        return trail.Trail
    if name == "Backlog":
        from sealtrail_producer import core

        return core.Backlog
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
