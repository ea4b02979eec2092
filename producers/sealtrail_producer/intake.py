"""Where emit() puts events and the flusher takes them.

A sequence number is taken only when nothing can go wrong any more with its event, so that a chain
has no holes.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from sealtrail import ids
from sealtrail_producer.errors import TrailClosedError
from sealtrail_producer.pending import Pending

if TYPE_CHECKING:
    from sealtrail.errors import SealtrailError, UnavailableError
    from sealtrail.event import ProvenanceEvent
    from sealtrail_producer.chain_writer import ChainWriter


class Intake:
    """Events in memory.

    Args:
        chain: takes the first events.
        chain_s: age in seconds at which a chain takes no more.
        batch_events: wake the flusher at so many.
        batch_bytes: or at so many bytes (estimated).
        max_events: hold back at so many.
        max_bytes: or at so many bytes (estimated).
        blocks: whether `add` waits when it must hold back; else it raises.
    """

    def __init__(  # noqa: PLR0913 - its parts, most by keyword
        self,
        chain: ChainWriter,
        *,
        chain_s: int,
        batch_events: int,
        batch_bytes: int,
        max_events: int,
        max_bytes: int,
        blocks: bool,
    ) -> None:
        # The condition's own lock: who only takes it, as each emit() does, takes it without a call.
        self.lock = threading.Lock()
        self.condition = threading.Condition(self.lock)
        self.added = 0
        self.closed = False
        # Why nothing more can be taken: for now (spool, signer), or for good (a wrong setting).
        self.stuck: UnavailableError | None = None
        self.failed: SealtrailError | None = None
        self._chain_us = chain_s * 1_000_000
        self._batch_events = batch_events
        self._batch_bytes = batch_bytes
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._blocks = blocks
        self._events: deque[Pending] = deque()
        self._bytes = 0
        self._hurry = False
        self.switch(chain)

    def switch(self, chain: ChainWriter) -> None:
        """Go on with a new chain (with the condition held, and nothing pending)."""
        self.chain = chain
        self._until_us = chain.genesis.opened_at + self._chain_us
        self.next_seq = 0
        self.sampled_out = 0

    def full(self) -> bool:
        """Whether events must wait."""
        return (
            self.stuck is not None
            or len(self._events) >= self._max_events
            or self._bytes >= self._max_bytes
        )

    def add(
        self,
        event: ProvenanceEvent,
        size: int,
        now_us: int,
        durable: bool,
    ) -> Pending | None:
        """Give an event the next position (with the lock held); wait for room as configured.

        Args:
            event: the event, checked.
            size: its bytes, estimated.
            now_us: when it was emitted.
            durable: whether somebody waits for it.

        Returns:
            None when the chain that is open now is too old for it or has no number left.

        Raises:
            UnavailableError: there is no room and waiting is not configured.
            TrailClosedError: the trail was closed.
            SealtrailError: the trail failed for good.
        """
        # Here for each event, so written out: `full` and `outdated`.
        events = self._events
        if (
            self.stuck is not None
            or self.failed is not None
            or self.closed
            or len(events) >= self._max_events
            or self._bytes >= self._max_bytes
        ):
            self._await_room()
        seq = self.next_seq
        if (now_us >= self._until_us and seq > 0) or seq > ids.MAX_SEQ:
            return None
        pending = Pending((self.chain.id_template | seq).to_bytes(16, "big"), event, size)
        self.next_seq = seq + 1
        self.added += 1
        events.append(pending)
        self._bytes += size
        count = len(events)
        if durable:
            pending.durable = True
            self._hurry = True
        if durable or count in (1, self._batch_events) or self._bytes >= self._batch_bytes:
            self.condition.notify_all()
        return pending

    def _await_room(self) -> None:
        while True:
            if self.closed:
                raise TrailClosedError("the trail is closed", hint="emit before close()")
            if self.failed is not None:
                raise self.failed
            if not self.full():
                return
            if not self._blocks and self.stuck is not None:
                raise self.stuck
            self.condition.wait(1.0)

    def outdated(self, now_us: int) -> bool:
        """Whether the open chain has events and is to be continued by another (lock held)."""
        return now_us >= self._until_us and self.next_seq > 0

    def take(self) -> list[Pending]:
        """Up to a batch of events, oldest first (with the condition held)."""
        taken: list[Pending] = []
        while self._events and len(taken) < self._batch_events:
            pending = self._events.popleft()
            self._bytes -= pending.size
            taken.append(pending)
        if not self._events:
            self._bytes = 0
            self._hurry = False
        self.condition.notify_all()
        return taken

    def wait(self, idle_s: float, batch_s: float) -> None:
        """Return when a batch is due, or after idle_s without any event."""
        with self.condition:
            if not self._events and not self.closed:
                self.condition.wait(idle_s)
            if self._events and not self._due():
                self.condition.wait_for(self._due, batch_s)

    def _due(self) -> bool:
        return (
            self._hurry
            or self.closed
            or len(self._events) >= self._batch_events
            or self._bytes >= self._batch_bytes
        )

    def hurry(self) -> None:
        """Have the flusher take what is there."""
        with self.condition:
            self._hurry = bool(self._events)
            self.condition.notify_all()

    def set_stuck(self, error: UnavailableError | None) -> None:
        """Nothing can be signed or spooled (error), or it goes on (None)."""
        with self.condition:
            self.stuck = error
            self.condition.notify_all()
