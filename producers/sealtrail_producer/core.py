"""What a trail has open: slot, spool, chain, intake, flusher, sender and the two threads.

A forked child leaves all of it behind.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail import avro, ids
from sealtrail.errors import SealtrailError, UnavailableError
from sealtrail.event import MAX_EVENT_BYTES
from sealtrail.statement import Continues, Genesis, Identity
from sealtrail_producer import envelope, slots
from sealtrail_producer.adoption import Adoption
from sealtrail_producer.chain_writer import ChainWriter, partition_of
from sealtrail_producer.errors import SpoolError
from sealtrail_producer.flusher import RETRY_S, Flusher
from sealtrail_producer.intake import Intake
from sealtrail_producer.pacing import Pacer
from sealtrail_producer.registration import Registration
from sealtrail_producer.sender import IDLE_S, POLL_S, Sender
from sealtrail_producer.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sealtrail.dsse import Signer
    from sealtrail.event import ProvenanceEvent
    from sealtrail_producer.pending import Pending
    from sealtrail_producer.ports import Ports
    from sealtrail_producer.settings import ProducerSettings

log = logging.getLogger(__name__)

# Memory for events that are not in the spool yet, by a rough estimate of their size.
QUEUE_BYTES = 64 * 1024 * 1024
# An event of a smaller estimate is never too large: a character has four bytes at most.
LARGE = MAX_EVENT_BYTES // 4


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits between `emit` and the brokers.

    Attributes:
        events: in memory, not in the spool yet.
        spool_bytes: in the spool, not acknowledged yet.
        spool_limit: at so many the spool is full.
        stuck: why nothing more is taken for now; empty when all is well.
    """

    events: int
    spool_bytes: int
    spool_limit: int
    stuck: str


class Core:
    """Opens everything but the network.

    Args:
        producer: service identity.
        settings: see `ProducerSettings`.
        signers: keys.
        ports: the outside.
        rotated: asked now and then for keys that took their place.

    Raises:
        SpoolError: the spool cannot be opened.
    """

    def __init__(
        self,
        producer: str,
        settings: ProducerSettings,
        signers: Sequence[Signer],
        ports: Ports,
        rotated: Callable[[], Sequence[Signer] | None] = lambda: None,
    ) -> None:
        self.settings = settings
        self._signers = signers
        self._rotated = rotated
        self._looked_at = ports.clock.steady_s()
        self._ports = ports
        self._stop = threading.Event()
        self._running: list[threading.Thread] = []
        self._root = settings.spool_dir or settings.state_dir / "spool"
        self.slot = slots.claim(self._root, producer, settings.instance or socket.gethostname())
        try:
            self.spool = self._open_spool(self.slot.folder)
        except BaseException:
            self.slot.release()
            raise
        self.identity = Identity(
            settings.environment,
            settings.tenant,
            settings.topic,
            partition_of(producer, self.slot.instance, settings.partitions),
            producer,
            self.slot.instance,
        )
        self._schema = avro.codec("ProvenanceEvent").fingerprint
        self._registration = Registration(
            ports.registry,
            settings.topic,
            settings.state_dir / "registry-ids.json",
            settings.registry_url,
        )
        self.intake = Intake(
            self._chain(envelope.continuation(self.spool.last(), self.identity)),
            chain_s=settings.chain_s,
            batch_events=settings.batch_events,
            batch_bytes=settings.batch_bytes,
            max_events=settings.queue_events,
            max_bytes=QUEUE_BYTES,
            blocks=settings.spool_full == "block",
        )
        self.sender = self._sender(self.spool)
        self.adoption: Adoption | None = None
        self.flusher = Flusher(
            self.intake,
            self.spool,
            ports.clock,
            self._registration,
            batch_bytes=settings.batch_bytes,
            spooled=self.sender.spooled,
        )
        self._synced_at = ports.clock.steady_s()

    def _open_spool(self, folder: Path) -> Spool:
        settings = self.settings
        return Spool(folder, max_bytes=settings.spool_bytes, policy=settings.spool_fsync)

    def _sender(self, spool: Spool) -> Sender:
        settings, ports = self.settings, self._ports
        pacer = None
        if settings.pace_bytes and ports.group is not None:
            pacer = Pacer(ports.group, settings.pace_bytes, ports.clock)
        return Sender(
            spool,
            ports.transport,
            self._registration,
            ports.clock,
            topic=settings.topic,
            partitions=settings.partitions,
            heartbeat_s=settings.heartbeat_s,
            pacer=pacer,
        )

    def _chain(self, continues: Continues | None) -> ChainWriter:
        genesis = Genesis(
            nonce=self._ports.entropy(32),
            opened_at=self._ports.clock.now_us(),
            heartbeat_s=self.settings.heartbeat_s,
            continues=continues,
        )
        return ChainWriter(self.identity, genesis, self._signers, self._schema)

    def start(self) -> None:
        """Start the two threads. They are daemons: `atexit` closes the trail."""
        for name, work in (("flusher", self._flush_loop), ("sender", self._send_loop)):
            thread = threading.Thread(target=work, name=f"sealtrail-{name}", daemon=True)
            self._running.append(thread)
            thread.start()

    # -- threads --------------------------------------------------------------

    def _flush_loop(self) -> None:
        while not self._stop.is_set():
            self.intake.wait(IDLE_S, self.settings.batch_ms / 1000)
            try:
                if not self.flush_step() or self.intake.closed:
                    self._stop.wait(RETRY_S)
            except Exception as error:  # noqa: BLE001 - a thread that ends unseen would hide losses
                self._failed(_typed(error))
                return

    def flush_step(self) -> bool:
        """One turn of the flusher; False when the spool takes nothing for now."""
        now = self._ports.clock.steady_s()
        every = self.settings.key_refresh_s
        if every and now - self._looked_at >= every:
            self._looked_at = now
            self._look_for_keys()
        placed = self.flusher.flush()
        due = self.settings.spool_fsync == "interval"
        if due and now - self._synced_at >= self.settings.spool_fsync_ms / 1000:
            self._synced_at = now
            try:
                self.spool.sync()
            except SpoolError as error:
                log.warning("%s", error.message)
        return placed

    def _look_for_keys(self) -> None:
        found = self._rotated()
        if found is None:
            return
        try:
            self.rotate(found)
        except SealtrailError as error:
            log.warning("%s keeps its keys: %s", self.identity.producer, error.message)

    def rotate(self, signers: Sequence[Signer]) -> None:
        """See `Trail.rotate`. What is sealed already keeps its signatures."""
        with self.flusher.lock:
            self.intake.chain.sign_with(signers)
            self._signers = signers
        names = ", ".join(s.public_key.fingerprint.hex()[:16] for s in signers)
        log.info("%s signs with %s from now on", self.identity.producer, names)

    def _send_loop(self) -> None:
        try:
            while not self._stop.is_set():
                self.sender.wait(POLL_S if self.adoption and self.adoption.active else IDLE_S)
                self.send_step()
        except Exception as error:  # noqa: BLE001 - as in the flusher
            self._failed(_typed(error))
        finally:
            self.sender.close()
            if self.adoption is not None:
                self.adoption.close()

    def send_step(self) -> None:
        """One turn of the sender, and of the orphans that it found at its first turn."""
        if self.adoption is None:
            self.adoption = Adoption(
                self._root, self.identity.producer, self._open_spool, self._sender
            )
        self.sender.step()
        self.adoption.step()

    def _failed(self, error: SealtrailError) -> None:
        """Something that no retry mends: whoever emits, flushes or closes is told."""
        log.error("%s", error.message)
        with self.intake.condition:
            self.intake.failed = error
            self.intake.condition.notify_all()
        with self.sender.condition:
            self.sender.condition.notify_all()

    # -- events ---------------------------------------------------------------

    def add(self, event: ProvenanceEvent, size: int, now_us: int, durable: bool) -> Pending:
        """Give an event its place in the chain, and wait for the disk if asked.

        Args:
            event: the event, checked.
            size: its bytes, estimated.
            now_us: when it was emitted: whether its chain is too old for it.
            durable: whether to wait.

        Raises:
            EventError: it is too large.
        """
        if size > LARGE:
            # Before it takes a sequence number; to encode all of them here would cost too much.
            event.encode()
        intake = self.intake
        while True:
            with intake.lock:
                pending = intake.add(event, size, now_us, durable)
                number = intake.added
            if pending is not None:
                break
            self._roll()
            now_us = self._ports.clock.now_us()
        if durable:
            self._await_disk(number)
        return pending

    def _roll(self) -> None:
        with self.flusher.lock:
            with self.intake.condition:
                outdated = self.intake.outdated(self._ports.clock.now_us())
                if not outdated and self.intake.next_seq <= ids.MAX_SEQ:
                    return
            self.flusher.close_chain(lambda chain: self._chain(chain.continues()))

    def _await_disk(self, number: int) -> None:
        """Until so many events are in the spool; a durable one is synced before it counts."""
        condition = self.intake.condition
        while True:
            with condition:
                if self.flusher.placed >= number:
                    return
                self._complain()
                if self._running:
                    condition.wait(IDLE_S)
            self._turn()

    def _complain(self) -> None:
        if self.intake.failed is not None:
            raise self.intake.failed
        if self.intake.stuck is not None and self.settings.spool_full == "raise":
            raise self.intake.stuck

    def _turn(self) -> None:
        """Without threads, whoever waits does the work."""
        if not self._running:
            self.flush_step()
            self.send_step()

    def backlog(self) -> Backlog:
        """See `Trail.backlog`."""
        with self.intake.condition:
            waiting = self.intake.added - self.flusher.placed
            why = self.intake.failed or self.intake.stuck
        stuck = "" if why is None else why.message
        return Backlog(waiting, self.spool.pending_bytes, self.spool.max_bytes, stuck)

    # -- ends -----------------------------------------------------------------

    def flush(self, timeout: float | None) -> bool:
        """See `Trail.flush`."""
        deadline = None if timeout is None else self._ports.clock.steady_s() + timeout
        with self.intake.condition:
            number = self.intake.added
        self.intake.hurry()
        if not self._await(lambda: self.flusher.placed >= number, self.intake.condition, deadline):
            return False
        last = self.spool.next_index - 1
        return self._await(lambda: self.sender.delivered >= last, self.sender.condition, deadline)

    def _await(
        self, done: Callable[[], bool], condition: threading.Condition, deadline: float | None
    ) -> bool:
        while True:
            with condition:
                if done():
                    return True
                if self.intake.failed is not None:
                    raise self.intake.failed
                rest = IDLE_S if deadline is None else deadline - self._ports.clock.steady_s()
                if rest <= 0:
                    return False
                if self._running:
                    condition.wait(min(rest, IDLE_S))
            self._turn()

    def close(self, timeout: float) -> bool:
        """See `Trail.close`."""
        deadline = self._ports.clock.steady_s() + timeout
        with self.intake.condition:
            self.intake.closed = True
            self.intake.condition.notify_all()
        self.flusher.close_chain()
        complete = False
        try:
            complete = self._await(self.flusher.idle, self.intake.condition, deadline)
            # Rather more on the disk than allowed than an event lost with the process.
            self.flusher.place_rest()
            last = self.spool.next_index - 1
            complete = complete and self._await(
                lambda: self.spool.acked >= last, self.sender.condition, deadline
            )
        finally:
            self._leave()
        if not complete:
            log.warning(
                "not everything reached the brokers; the rest waits in %s", self.slot.folder
            )
        return complete

    def _leave(self) -> None:
        self._stop.set()
        self.sender.stop()
        with self.intake.condition:
            self.intake.condition.notify_all()
        for thread in self._running:
            thread.join(IDLE_S + 10.0)
        if not self._running:
            self.sender.close()
            if self.adoption is not None:
                self.adoption.close()
        self.spool.close()
        self.slot.release()

    def abandon(self) -> None:
        """In a forked child: close descriptors, touch nothing else."""
        with contextlib.suppress(OSError):
            self.spool.abandon()
        self.sender.abandon()
        if self.adoption is not None:
            self.adoption.abandon()
        self.slot.release()


def _typed(error: Exception) -> SealtrailError:
    if isinstance(error, SealtrailError):
        return error
    log.error("a background thread of the SDK ended", exc_info=error)
    return UnavailableError(f"the SDK cannot go on: {type(error).__name__}: {error}")
