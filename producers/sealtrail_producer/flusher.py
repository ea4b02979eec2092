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
from sealtrail_producer.errors import SigningError, SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sealtrail.errors import UnavailableError
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
class _Group:
    """Events of one batch that is not signed yet."""

    chain: ChainWriter
    events: list[Pending]
    sampled_out: int
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
        # Taken from the intake, not signed yet; signed, not in the spool yet. Both in order.
        self._groups: deque[_Group] = deque()
        self._ready: deque[_Ready] = deque()

    def flush(self) -> bool:
        """Bring everything that waits into the spool.

        Returns:
            Whether the spool took it all.
        """
        with self.lock:
            while self._go_on():
                with self._intake.condition:
                    batch = self._intake.take()
                    chain, sampled_out = self._intake.chain, self._intake.sampled_out
                if not batch:
                    return True
                self._add_groups(chain, batch, sampled_out)
            return False

    def close_chain(self, following: Callable[[ChainWriter], ChainWriter] | None = None) -> None:
        """End the chain with a CLOSE statement, which takes the events that wait with it.

        Args:
            following: makes the chain that goes on from its head, for rolling.

        Raises:
            SigningError: with following, which cannot begin before this one is signed to its end.
        """
        with self.lock:
            # The intake stands still from the last event of the old chain to the first of the new.
            with self._intake.condition:
                chain, sampled_out = self._intake.chain, self._intake.sampled_out
                batches = []
                while batch := self._intake.take():
                    batches.append(batch)
                for batch in batches[:-1]:
                    self._add_groups(chain, batch, sampled_out)
                begun = chain.begun or bool(self._groups) or bool(sampled_out)
                # A roll that could not sign is tried again: its CLOSE waits already.
                ended = chain.closed or any(g.closes and g.chain is chain for g in self._groups)
                if not ended and (batches or begun):
                    self._add_groups(chain, batches[-1] if batches else [], sampled_out, close=True)
                if following is not None:
                    self._sign()
                    self._intake.switch(following(chain))
            self._go_on()

    def _add_groups(
        self, chain: ChainWriter, batch: Sequence[Pending], sampled_out: int, *, close: bool = False
    ) -> None:
        """Split by bytes; there is always one group, if empty."""
        groups: list[list[Pending]] = [[]]
        size = 0
        for pending in batch:
            length = len(pending.encode())
            if groups[-1] and size + length > self._batch_bytes:
                groups.append([])
                size = 0
            groups[-1].append(pending)
            size += length
        for number, group in enumerate(groups, 1):
            closes = close and number == len(groups)
            self._groups.append(_Group(chain, group, sampled_out, closes))

    def _go_on(self) -> bool:
        """Sign and spool what was taken; False when one of them does not go on for now."""
        try:
            self._sign()
        except SigningError as error:
            self._stop(error)
            return False
        return self._place()

    def _sign(self) -> None:
        while self._groups:
            self._seal(self._groups[0])
            self._groups.popleft()

    def _seal(self, group: _Group) -> None:
        events = [pending.encode() for pending in group.events]
        try:
            sealed = group.chain.seal(
                [pending.leaf for pending in group.events],
                signed_at=self._clock.now_us(),
                clock_error_us=self._clock.error_us(),
                sampled_out=group.sampled_out,
                close=group.closes,
            )
        except (
            Exception
        ) as error:  # signers are others' code, and no failure of theirs may lose events
            raise SigningError(
                f"a batch cannot be signed: {type(error).__name__}: {error}",
                hint="its events wait in memory; see whether the signer can be reached",
            ) from error
        ids = self._registration.ids
        self._ready.append(
            _Ready(
                message=envelope.batch_message(sealed, events, ids),
                framed=ids is not None,
                events=len(events),
                # A later chain may continue a head only if it was on disk before it was sent.
                sync=group.closes or any(pending.durable for pending in group.events),
                chain=group.chain,
                batch_seq=sealed.statement.batch_seq,
                head=sealed.head,
                closes=group.closes,
            )
        )
        for pending in group.events:
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
                self._stop(error)
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

    def _stop(self, error: UnavailableError) -> None:
        if self._intake.stuck is None:
            log.warning("%s", error.message)
        self._intake.set_stuck(error)

    def place_rest(self) -> None:
        """Bring the last sealed batches into the spool at the end, beyond its bound if need be.

        Raises:
            SpoolError: the disk refuses; these events are lost with the process.
            SigningError: a signer does; the same.
        """
        with self.lock:
            self._sign()
            if not self._place(beyond=True) and self._intake.stuck is not None:
                raise self._intake.stuck

    def idle(self) -> bool:
        """Whether nothing that was taken waits for signer or spool."""
        # Without the lock: who waits for this holds the intake's.
        return not self._ready and not self._groups
