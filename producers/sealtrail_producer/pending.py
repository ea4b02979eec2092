"""An event between emit() and its batch, which is the receipt that the caller holds, too.

One object for both: to make a second one takes a tenth of an emit().
"""

from __future__ import annotations

import logging
from hashlib import sha256

from sealtrail import ids
from sealtrail.errors import EventError
from sealtrail.event import ParentRef, ProvenanceEvent, tombstone

log = logging.getLogger(__name__)


class Receipt:
    """What emit() gives back.

    Args:
        event_id: 16 bytes; empty for an AUXILIARY event that was sampled out.
    """

    __slots__ = ("_reference", "event_id")

    def __init__(self, event_id: bytes) -> None:
        self.event_id = event_id
        self._reference: ParentRef | None = None

    @property
    def sampled_out(self) -> bool:
        """Whether the event was left out, as SEALTRAIL_SAMPLE_AUXILIARY says."""
        return not self.event_id

    @property
    def id(self) -> str:
        """The event id as people write it; empty when sampled out."""
        return ids.text(self.event_id) if self.event_id else ""

    @property
    def reference(self) -> ParentRef:
        """Names the event as a parent of others, also of other services; encodes it, once.

        Raises:
            EventError: the event was sampled out.
        """
        if self._reference is None:
            self._reference = self._refer()
        return self._reference

    @property
    def references(self) -> tuple[ParentRef, ...]:
        """What a child names: this event, or the parents of an event that was sampled out."""
        return (self.reference,)

    def _refer(self) -> ParentRef:
        """What `reference` gives: for the kinds of receipts below to say."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"Receipt({self.id or 'sampled out'})"


class SampledOut(Receipt):
    """Of an AUXILIARY event that was left out: it passes its own parents on."""

    __slots__ = ("_parents",)

    def __init__(self, parents: tuple[ParentRef, ...]) -> None:
        super().__init__(b"")
        self._parents = parents

    @property
    def references(self) -> tuple[ParentRef, ...]:
        """Its own parents."""
        return self._parents

    def _refer(self) -> ParentRef:
        raise EventError(
            "the event was sampled out and cannot be named",
            hint="pass the receipt itself as a parent: it passes its own parents on",
        )


class Pending(Receipt):
    """An event that has its id and waits to be encoded.

    Several threads may encode it at once: it gives the same bytes each time, so that whoever is
    last changes nothing.
    """

    __slots__ = ("_event", "_leaf", "data", "durable", "occurred_at", "size")

    def __init__(self, event_id: bytes, event: ProvenanceEvent, size: int) -> None:
        # Written out: to call the class above would take as long as all of this.
        self.event_id = event_id
        self._reference = None
        self.occurred_at = event.occurred_at
        self.size = size
        self.durable = False
        self.data: bytes | None = None
        self._event: ProvenanceEvent | None = event
        self._leaf: bytes | None = None

    def encode(self) -> bytes:
        """Its Avro bytes, or a tombstone's if it cannot be encoded: its id was given out.

        For the flusher alone, until it releases the event.
        """
        if self.data is None:
            self._fill()
        data = self.data
        if data is None:
            raise AssertionError("an event is encoded before it is released")
        return data

    @property
    def leaf(self) -> bytes:
        """RFC 6962 leaf hash of its bytes, 32 bytes; for any thread at any time."""
        if self._leaf is None:
            self._fill()
        leaf = self._leaf
        if leaf is None:
            raise AssertionError("an event is released after its leaf hash was taken")
        return leaf

    def _fill(self) -> None:
        # Looked at once: the flusher may release the event meanwhile, and then the leaf is there.
        event = self._event
        if event is None:
            return
        try:
            data = event.encode()
        except EventError as error:
            log.warning("event %s becomes a tombstone: %s", ids.text(self.event_id), error.message)
            stone = tombstone(event.occurred_at, event.salt, event.actor.id, error.message)
            data = stone.encode()
        self._leaf = sha256(b"\x00" + data).digest()
        self.data = data

    def _refer(self) -> ParentRef:
        return ParentRef(self.event_id, self.occurred_at, self.leaf)

    def release(self) -> None:
        """Forget event and bytes once the batch is sealed: a receipt that is kept costs little."""
        self._event = None
        self.data = None
