"""What workers and commands publish: alerts, copies of refused messages, positions of chains."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, Producer

from sealtrail import connections
from sealtrail.errors import UnavailableError
from sealtrail_processor.kafka.client import rdkafka

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sealtrail_processor.judging.ports import Outgoing

log = logging.getLogger(__name__)

# What may wait for the broker in memory.
QUEUE_KBYTES = 64 * 1024


class KafkaPublisher:
    """Publishes with an idempotent producer; `offer` never waits.

    Args:
        config: librdkafka's, with bootstrap.servers.
        queue: messages that may wait for the broker.
        timeout_s: how long one may wait before it is given up, seconds.
    """

    def __init__(
        self, config: Mapping[str, Any], queue: int = 50_000, timeout_s: float = 300.0
    ) -> None:
        self.failed = 0
        self._config = dict(config)
        self._queue = queue
        self._timeout_s = timeout_s
        self._watched = connections.Watched(config)
        # Several threads publish; one of them may take a new client.
        self._lock = threading.Lock()
        self._producer = self._open()
        self._retired: list[Producer] = []

    def _open(self) -> Producer:
        return Producer(
            self._config
            | {
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "queue.buffering.max.messages": self._queue,
                # Copies of refused messages may be large, and the broker away for long.
                "queue.buffering.max.kbytes": QUEUE_KBYTES,
                "message.max.bytes": 9 * 2**20,
                "delivery.timeout.ms": round(self._timeout_s * 1000),
            },
            logger=rdkafka,
        )

    def offer(self, message: Outgoing) -> bool:
        """Queue a message; False when the queue is full and it was dropped."""
        try:
            self._produce(message, self._offered)
        except BufferError:
            self.failed += 1
            return False
        self.poll()
        return True

    def publish(self, messages: Sequence[Outgoing], timeout_s: float) -> list[int]:
        """Publish in order and wait; offsets that they got.

        Raises:
            UnavailableError: not all were acknowledged in time.
        """
        offsets: dict[int, int] = {}
        errors: list[str] = []

        def acknowledged(index: int, error: Any, message: Any) -> None:
            if error is not None:
                errors.append(str(error))
            else:
                offsets[index] = message.offset()

        for index, message in enumerate(messages):
            self._produce(message, lambda e, m, i=index: acknowledged(i, e, m))
        deadline = time.monotonic() + timeout_s
        while len(offsets) + len(errors) < len(messages) and time.monotonic() < deadline:
            self.poll(0.05)
        if len(offsets) < len(messages):
            reason = errors[0] if errors else "no answer"
            raise UnavailableError(f"{len(messages) - len(offsets)} not published: {reason}")
        return [offsets[i] for i in range(len(messages))]

    def _produce(self, message: Outgoing, report: Any) -> None:
        place: dict[str, Any] = {}
        if message.partition is not None:
            place["partition"] = message.partition
        with self._lock:
            self._producer.produce(
                message.topic,
                message.value,
                message.key,
                headers=list(message.headers),
                on_delivery=report,
                **place,
            )

    def _offered(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failed += 1
            log.warning("a message for %s was not published: %s", message.topic(), error)

    def poll(self, timeout_s: float = 0.0) -> None:
        """Serve delivery reports; call now and then."""
        for producer in (*self._retired, self._producer):
            producer.poll(timeout_s)
        with self._lock:
            self._retired = [producer for producer in self._retired if len(producer)]
            if self._watched.changed():
                self._renew()

    def _renew(self) -> None:
        # What the old one has queued goes out; what comes from now on takes the new one.
        try:
            fresh = self._open()
        except KafkaException as error:
            log.warning("%s; going on with the certificates before", error.args[0])
            return
        self._retired.append(self._producer)
        self._producer = fresh

    def close(self, timeout_s: float) -> int:
        """Wait for what is queued, so long; messages that are left."""
        return sum(int(p.flush(timeout_s)) for p in (*self._retired, self._producer))
