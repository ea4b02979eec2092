"""What is sent by hand, and what must become of it."""

from __future__ import annotations

from dataclasses import dataclass

from sealtrail import ids
from sealtrail.findings import PARKED_CODES, Code, Disposition


@dataclass(slots=True)
class Sent:
    """A message that was sent by hand, and what must become of it.

    code: of the refusal; events: how many of its events the store must hold.
    """

    attack: str
    partition: int
    disposition: Disposition
    code: Code | None = None
    events: int = 0
    offset: int = -1
    # Of a refusal that may bear one of several names, None among them for a duplicate.
    allowed: frozenset[Code | None] = frozenset()


@dataclass(frozen=True, slots=True)
class Expected:
    """A finding that must be made; sent None: by a timer, about no message."""

    attack: str
    code: Code
    sent: Sent | None
    partition: int
    chain_id: bytes = bytes(32)
    batch_seq: int = 0
    event_id: bytes | None = None

    @property
    def key(self) -> tuple[str, int, int, str, int, str]:
        """As `found` gives it: code, partition, offset, chain, batch, event."""
        at = 0 if self.sent is None else self.sent.offset
        event = "" if self.event_id is None else ids.text(self.event_id)
        return self.code.value, self.partition, at, self.chain_id.hex(), self.batch_seq, event


def fate_of(code: Code) -> Disposition:
    """Where a refused message goes."""
    return Disposition.PARKED if code in PARKED_CODES else Disposition.QUARANTINED
