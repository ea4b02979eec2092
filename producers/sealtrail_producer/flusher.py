"""Encodes, hashes, signs and spools what waits in the intake.

Order that survives a crash: seal (the chain moves on in memory) -> spool (on disk, as the policy
says) -> only then does the sender see it. A batch that the spool refuses stays here and is tried
again; nothing is sealed behind it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail_producer import envelope
from sealtrail_producer.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sealtrail_producer.chain_writer import ChainWriter
    from sealtrail_producer.intake import Intake
    from sealtrail_producer.pending import Pending
    from sealtrail_producer.ports import Clock, Message
    from sealtrail_producer.registration import Registration
    from sealtrail_producer.spool import Spool

log = logging.getLogger(__name__)

RETRY_S = 0.05


@dataclass(frozen=True, slots=True)
class Mark:
    """A batch of this process in the spool: what a heartbeat may name."""

    index: int
    chain: ChainWriter
    batch_seq: int
    head: bytes
    closes: bool


@dataclass(frozen=True, slots=True)
class _Ready:
    """A sealed batch that waits for the spool."""

    message: Message
    framed: bool
    events: int
    sync: bool
    chain: ChainWriter
    batch_seq: int
    head: bytes
    closes: bool


class Flusher:
    """Between intake and spool.

    Args:
        intake: events.
        spool: batches.
        clock: for signed_at.
        registration: ids to frame with, when known.
        batch_bytes: bytes of events in a batch at most.
        spooled: called after each record that the spool took.
    """

    def __init__(  # noqa: PLR0913 - its parts, most by keyword
        self,
        intake: Intake,
        spool: Spool,
        clock: Clock,
        registration: Registration,
        *,
        batch_bytes: int,
        spooled: Callable[[Mark], None],
    ) -> None:
        self.lock = threading.RLock()
        self.placed = 0
        self._intake = intake
        self._spool = spool
        self._clock = clock
        self._registration = registration
        self._batch_bytes = batch_bytes
        self._spooled = spooled
        self._ready: deque[_Ready] = deque()

    def flush(self) -> bool:
        """Bring everything that waits into the spool.

        Returns:
            Whether the spool took it all.
        """
        with self.lock:
            while self._place():
                with self._intake.condition:
                    batch = self._intake.take()
                    chain, sampled_out = self._intake.chain, self._intake.sampled_out
                if not batch:
                    return True
                self._seal(chain, batch, sampled_out)
            return False

    def close_chain(self, following: Callable[[ChainWriter], ChainWriter] | None = None) -> None:
        """End the chain with a CLOSE statement, which takes the events that wait with it.

        Args:
            following: makes the chain that goes on from its head, for rolling.
        """
        with self.lock:
            # The intake stands still from the last event of the old chain to the first of the new
            # one.
            with self._intake.condition:
                chain, sampled_out = self._intake.chain, self._intake.sampled_out
                batches = []
                while batch := self._intake.take():
                    batches.append(batch)
                for batch in batches[:-1]:
                    self._seal(chain, batch, sampled_out)
                if not chain.closed and (batches or chain.begun or sampled_out):
                    self._seal(chain, batches[-1] if batches else [], sampled_out, close=True)
                if following is not None:
                    self._intake.switch(following(chain))
            self._place()

    def _seal(
        self, chain: ChainWriter, batch: Sequence[Pending], sampled_out: int, *, close: bool = False
    ) -> None:
        groups = self._groups(batch)
        for number, group in enumerate(groups, 1):
            self._seal_group(chain, group, sampled_out, close=close and number == len(groups))

    def _groups(self, batch: Sequence[Pending]) -> list[list[Pending]]:
        """Split by bytes; there is always one, if empty."""
        groups: list[list[Pending]] = [[]]
        size = 0
        for pending in batch:
            length = len(pending.encode())
            if groups[-1] and size + length > self._batch_bytes:
                groups.append([])
                size = 0
            groups[-1].append(pending)
            size += length
        return groups

    def _seal_group(
        self, chain: ChainWriter, group: list[Pending], sampled_out: int, *, close: bool
    ) -> None:
        events = [pending.encode() for pending in group]
        sealed = chain.seal(
            [pending.leaf for pending in group],
            signed_at=self._clock.now_us(),
            clock_error_us=self._clock.error_us(),
            sampled_out=sampled_out,
            close=close,
        )
        ids = self._registration.ids
        self._ready.append(
            _Ready(
                message=envelope.batch_message(sealed, events, ids),
                framed=ids is not None,
                events=len(events),
                # A later chain may continue a head only if it was on disk before it was sent.
                sync=close or any(pending.durable for pending in group),
                chain=chain,
                batch_seq=sealed.statement.batch_seq,
                head=sealed.head,
                closes=close,
            )
        )
        for pending in group:
            pending.release()

    def _place(self, *, beyond: bool = False) -> bool:
        """Move sealed batches into the spool, in order; False when it takes no more for now."""
        while self._ready:
            ready = self._ready[0]
            try:
                record = self._spool.append(
                    ready.message, framed=ready.framed, sync=ready.sync, beyond=beyond
                )
            except SpoolError as error:
                if self._intake.stuck is None:
                    log.warning("%s", error.message)
                self._intake.set_stuck(error)
                return False
            self._ready.popleft()
            self._spooled(
                Mark(record.index, ready.chain, ready.batch_seq, ready.head, ready.closes)
            )
            with self._intake.condition:
                self.placed += ready.events
                self._intake.condition.notify_all()
        if self._intake.stuck is not None:
            self._intake.set_stuck(None)
        return True

    def place_rest(self) -> None:
        """Bring the last sealed batches into the spool at the end, beyond its bound if need be.

        Raises:
            SpoolError: the disk refuses; these events are lost with the process.
        """
        with self.lock:
            if not self._place(beyond=True) and self._intake.stuck is not None:
                raise self._intake.stuck

    def idle(self) -> bool:
        """Whether no sealed batch waits for the spool."""
        # Without the lock: who waits for this holds the intake's.
        return not self._ready
