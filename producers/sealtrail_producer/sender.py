"""Hands spooled batches to the brokers, in order, the same bytes again until they are acknowledged.

Rules:
- one connection at a time; anything that fails ends it, and the next one begins behind the last
  acknowledged record. What was under way may then arrive twice: the same bytes at the same position
  are a duplicate, never a fork;
- reports of an earlier connection are ignored;
- the spool moves on when all records up to one are acknowledged, or, when paced, consumed by the
  group.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from sealtrail.errors import ConfigurationError, SealtrailError, UnavailableError
from sealtrail_producer import envelope
from sealtrail_producer.errors import DeliveryError, MessageRefusedError, PartitionCountError
from sealtrail_producer.in_order import InOrder
from sealtrail_producer.pacing import REFRESH_S
from sealtrail_producer.ports import BusyError, Delivery

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealtrail_producer.flusher import Mark
    from sealtrail_producer.pacing import Pacer
    from sealtrail_producer.ports import Clock, Transport
    from sealtrail_producer.registration import Registration
    from sealtrail_producer.spool import Spool
    from sealtrail_producer.spool_record import Record

log = logging.getLogger(__name__)

POLL_S = 0.01
IDLE_S = 0.5
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.1, 5.0
# Brokers that acknowledge nothing for so long are spoken of; the client itself tries for ever.
SILENT_S = 10.0
MAX_UNDER_WAY_BYTES = 16 * 1024 * 1024


class Sender:
    """Between spool and brokers.

    Args:
        spool: records.
        connect: opens a transport; may raise UnavailableError.
        registration: schema ids.
        clock: for heartbeats and deadlines.
        topic: topic whose partitions are checked at the first send.
        partitions: how many it must have.
        heartbeat_s: seconds between heartbeats.
        pacer: holds back while the pipeline lags; then records stay in the spool until they are
            consumed.
    """

    def __init__(  # noqa: PLR0913 - its parts, most by keyword
        self,
        spool: Spool,
        connect: Callable[[], Transport],
        registration: Registration,
        clock: Clock,
        *,
        topic: str,
        partitions: int,
        heartbeat_s: float,
        pacer: Pacer | None = None,
    ) -> None:
        self.condition = threading.Condition(threading.Lock())
        self.delivered = spool.acked
        self.last_error: SealtrailError | None = None
        self.stopping = False
        self._spool = spool
        self._connect = connect
        self._registration = registration
        self._clock = clock
        self._topic = topic
        self._partitions = partitions
        self._heartbeat_s = heartbeat_s
        self._pacer = pacer
        self._transport: Transport | None = None
        self._generation = 0
        self._next = spool.acked + 1
        self._under_way = InOrder()
        self._unconsumed = InOrder()
        self._sizes: dict[int, int] = {}
        self._reports: deque[tuple[int, Record, Delivery]] = deque()
        self._marks: deque[Mark] = deque()
        self._beat_at = clock.steady_s() + heartbeat_s
        self._beating = False
        self._backoff = 0.0
        self._not_before = 0.0
        self._heard_at = clock.steady_s()

    # -- seen from other threads --------------------------------------------

    def spooled(self, mark: Mark) -> None:
        """A batch of this process is in the spool."""
        with self.condition:
            self._marks.append(mark)
            self._forget_marks()
            self.condition.notify_all()

    def _forget_marks(self) -> None:
        """Keep the newest batch that the brokers have, and those that they do not have yet."""
        while len(self._marks) > 1 and self._marks[1].index <= self.delivered:
            self._marks.popleft()

    def wait(self, timeout_s: float) -> None:
        """Until there may be something to do."""
        with self.condition:
            # Looked at with the condition held, so that no wake-up falls between look and wait.
            rest = self._not_before - self._clock.steady_s()
            if rest > 0:
                timeout_s = min(timeout_s, rest)
            elif self._under_way or self._spool.has(self._next):
                return
            elif self._unconsumed:
                timeout_s = min(timeout_s, REFRESH_S)
            if not self.stopping:
                self.condition.wait(timeout_s)

    def stop(self) -> None:
        """Make `wait` return at once from now on."""
        with self.condition:
            self.stopping = True
            self.condition.notify_all()

    # -- one turn -------------------------------------------------------------

    def step(self) -> None:
        """One turn: connect, hand over, beat, take reports.

        Raises:
            ConfigurationError: something that no retry mends.
        """
        if self._clock.steady_s() < self._not_before:
            return
        if self._transport is None and not self._spool.has(self._next) and not self._marks:
            # A service that has emitted nothing needs no broker.
            return
        try:
            transport = self._connected()
            self._hand_over(transport)
            self._beat(transport)
            busy = self._under_way or self._beating or self._spool.has(self._next)
            transport.poll(POLL_S if busy else 0.0)
            self._settle()
            self._complain(transport)
            self._pace()
        except ConfigurationError:
            self._disconnect()
            raise
        except SealtrailError as error:
            self._fail(error)

    def _connected(self) -> Transport:
        if self._transport is not None:
            return self._transport
        self._registration.ensure()
        transport = self._connect()
        try:
            count = transport.partitions(self._topic)
        except UnavailableError:
            transport.close()
            raise
        if count != self._partitions:
            transport.close()
            raise PartitionCountError(
                f"topic {self._topic} has {count} partitions, "
                f"SEALTRAIL_PARTITIONS says {self._partitions}",
                hint=f"set SEALTRAIL_PARTITIONS={count} for producers and workers",
            )
        self._transport = transport
        self._heard_at = self._clock.steady_s()
        return transport

    def _hand_over(self, transport: Transport) -> None:
        while sum(self._sizes.values()) < MAX_UNDER_WAY_BYTES:
            record = self._spool.get(self._next)
            if record is None:
                return
            message = record.message
            if self._pacer is not None and not self._pacer.admits(message):
                return
            if not record.framed:
                message = envelope.framed(message, self._registration.ensure())
            try:
                transport.send(message, self._reporter(record))
            except BusyError:
                return
            self._next = record.index + 1
            self._under_way.start(record.index)
            self._sizes[record.index] = message.size
            if self._pacer is not None:
                self._unconsumed.start(record.index)
                self._pacer.sent(record.index, message)

    def _reporter(self, record: Record) -> Callable[[Delivery], None]:
        generation = self._generation
        return lambda delivery: self._reports.append((generation, record, delivery))

    def _settle(self) -> None:
        while self._reports:
            generation, record, delivery = self._reports.popleft()
            if generation != self._generation:
                continue
            if delivery.final:
                raise MessageRefusedError(
                    f"the brokers will not take batch {record.index} "
                    f"({record.message.size} bytes): {delivery.error}",
                    hint="raise the topic's max.message.bytes, or lower SEALTRAIL_BATCH_BYTES",
                )
            if delivery.error:
                raise DeliveryError(
                    f"the brokers did not take batch {record.index}: {delivery.error}"
                )
            self._sizes.pop(record.index, None)
            self._backoff = 0.0
            self._heard_at = self._clock.steady_s()
            self.last_error = None
            through = self._under_way.done(record.index)
            if self._pacer is not None:
                self._pacer.delivered(record.index, record.message, delivery.offset)
            elif through is not None:
                self._spool.ack(through)
            if through is not None:
                with self.condition:
                    self.delivered = max(self.delivered, through)
                    self.condition.notify_all()

    def _complain(self, transport: Transport) -> None:
        """Say so when the brokers take nothing, and what they say of the partition."""
        now = self._clock.steady_s()
        if not self._sizes:
            self._heard_at = now
        if now - self._heard_at < SILENT_S:
            return
        self._heard_at = now
        oldest = min(self._sizes)
        record = self._spool.get(oldest)
        place = self._topic, 0 if record is None else record.message.partition
        why = transport.standing(*place)
        error = DeliveryError(f"the brokers do not acknowledge batch {oldest}: {why}")
        if self.last_error is None or self.last_error.message != error.message:
            log.warning("%s; batches wait in the spool", error.message)
        self.last_error = error

    def _pace(self) -> None:
        if self._pacer is None:
            return
        try:
            consumed, began_anew = self._pacer.refresh()
        except UnavailableError as error:
            # Not worth a new connection, which would send everything unconsumed again.
            log.debug("%s", error.message)
            return
        if began_anew:
            raise DeliveryError("the log began anew: what was not consumed is sent again")
        for index in consumed:
            through = self._unconsumed.done(index)
            if through is not None:
                self._spool.ack(through)

    def _beat(self, transport: Transport) -> None:
        now = self._clock.steady_s()
        if now < self._beat_at or self._beating:
            return
        self._beat_at = now + self._heartbeat_s
        with self.condition:
            # Only what the brokers have may be named: a head that nobody saw would look like a
            # lost batch.
            self._forget_marks()
            mark = self._marks[0] if self._marks else None
        if mark is None or mark.index > self.delivered or mark.closes:
            return
        message = envelope.heartbeat_message(
            mark.chain, mark.batch_seq, mark.head, self._clock.now_us(), self._registration.ensure()
        )
        self._beating = True
        generation = self._generation
        try:
            transport.send(message, lambda delivery: self._beaten(generation, delivery))
        except BusyError:
            self._beating = False

    def _beaten(self, generation: int, delivery: Delivery) -> None:
        if generation == self._generation:
            self._beating = False
            if delivery.error:
                log.warning("heartbeat: %s", delivery.error)

    # -- failing and leaving --------------------------------------------------

    def _fail(self, error: SealtrailError) -> None:
        if self.last_error is None or self.last_error.message != error.message:
            log.warning("%s; batches wait in the spool", error.message)
        self.last_error = error
        self._disconnect()
        self._backoff = min(max(self._backoff * 2, FIRST_BACKOFF_S), LAST_BACKOFF_S)
        self._not_before = self._clock.steady_s() + self._backoff

    def _disconnect(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._transport = None
        self._generation += 1
        self._next = self._spool.acked + 1
        self._under_way.clear()
        self._unconsumed.clear()
        self._sizes.clear()
        self._reports.clear()
        self._beating = False
        if self._pacer is not None:
            self._pacer.clear()

    def close(self) -> None:
        """Leave the brokers; what they did not acknowledge stays in the spool."""
        self._disconnect()
        if self._pacer is not None:
            self._pacer.close()

    def abandon(self) -> None:
        """Forget the connection in a forked child."""
        if self._transport is not None:
            self._transport.abandon()
            self._transport = None
        if self._pacer is not None:
            self._pacer.abandon()
