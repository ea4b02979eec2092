"""Kafka beside the stream: identity of the log, the keys topic, what is published.

The only module of the room that imports confluent_kafka; the stream itself is Faust's (`app`).
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from sealtrail import connections
from sealtrail.errors import UnavailableError
from sealtrail_processor.judging import keeping
from sealtrail_processor.judging.model import RawMessage
from sealtrail_processor.judging.ports import Unreadable

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from confluent_kafka import Message

    from sealtrail_processor.judging.ports import Outgoing

log = logging.getLogger(__name__)
# Its own lines: each lost connection, once a broker and client.
rdkafka = logging.getLogger("librdkafka")

TIMEOUT_S = 10.0
NO_OFFSET = -1001
# What a single read may bring into memory beside what was asked for.
READ_AHEAD_KBYTES = 8 * 1024
# Messages that are read over rather than asked for anew.
NEAR = 16


class KafkaSide:
    """Metadata, watermarks and single reads, by a consumer that joins no group.

    Args:
        config: librdkafka's, with bootstrap.servers.
        group: whose committed offsets are asked for.
    """

    def __init__(self, config: Mapping[str, Any], group: str) -> None:
        self._config = dict(config)
        self._group = group
        self._lock = threading.Lock()
        self._admin: AdminClient | None = None
        self._watched = connections.Watched(config)
        self._consumer = self._open()

    def _open(self) -> Consumer:
        return Consumer(
            self._config
            | {
                "group.id": self._group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                # As the stream reads: also what a transaction never committed lies in the log.
                "isolation.level": "read_uncommitted",
                "queued.max.messages.kbytes": READ_AHEAD_KBYTES,
                "allow.auto.create.topics": False,
            },
            logger=rdkafka,
        )

    def _renew(self) -> None:
        """Go on with clients that have read the certificates as they are now."""
        if self._watched.changed():
            fresh = self._open()
            self._consumer.close()
            self._consumer, self._admin = fresh, None

    def log_id(self, topic: str) -> str:
        """Cluster id, and topic id where the cluster has a controller that can be asked for it.

        Raises:
            UnavailableError: the broker cannot be asked.
        """
        # By the client that asks the controller next: it learns from metadata alone who that is.
        # Left to itself it asks for them every five minutes, however long that broker is away.
        metadata = self._ask(lambda: self._controllers().list_topics(topic, timeout=TIMEOUT_S))
        cluster = str(metadata.cluster_id)
        if metadata.controller_id < 0:
            raise UnavailableError("kafka has no controller just now", hint="wait for its election")
        if metadata.controller_id not in metadata.brokers:
            # librdkafka's own broker names a controller that does not exist; it knows no topic ids.
            return cluster
        # A topic that is deleted and made again is another log of the same cluster.
        return f"{cluster}/{self._topic_id(topic)}"

    def _controllers(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient(self._config, logger=rdkafka)
        return self._admin

    def _topic_id(self, topic: str) -> str:
        def describe() -> str:
            asked = TopicCollection([topic])
            found = self._controllers().describe_topics(asked, request_timeout=TIMEOUT_S)
            return str(found[topic].result().topic_id)

        return str(self._ask(describe))

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has, 0 when there is no such topic.

        Raises:
            UnavailableError: the broker cannot be asked.
        """
        metadata = self._ask(lambda: self._consumer.list_topics(topic, timeout=TIMEOUT_S))
        found = metadata.topics.get(topic)
        return 0 if found is None or found.error is not None else len(found.partitions)

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset, and the one after the last.

        Raises:
            UnavailableError: the broker cannot be asked.
        """
        where = TopicPartition(topic, partition)
        found: tuple[int, int] = self._ask(
            lambda: self._consumer.get_watermark_offsets(where, timeout=TIMEOUT_S, cached=False)
        )
        return found

    def committed(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """The group's committed offsets by partition; those without one are left out.

        Raises:
            UnavailableError: the broker cannot be asked.
        """
        asked = [TopicPartition(topic, p) for p in partitions]
        found = self._ask(lambda: self._consumer.committed(asked, timeout=TIMEOUT_S))
        return {p.partition: p.offset for p in found if p.offset >= 0}

    def first_at(self, topic: str, partition: int, offset: int) -> int:
        """Offset of the first message at or after an offset.

        Raises:
            UnavailableError: the broker cannot be asked, or gives none within 10 s: which does not
                mean that there is none.
        """
        return int(self._first(topic, partition, offset).offset() or 0)

    def messages(
        self, topic: str, partition: int, offsets: Sequence[int], most: int
    ) -> list[RawMessage | None]:
        """The messages at some offsets, without headers; None where there is none (any more).

        Those of the first offsets, until `most` bytes are reached, or a read fails: one in any
        case. Quickest where offsets rise.

        Raises:
            Unreadable: the broker answers, and does not give the first of them.
            UnavailableError: the broker cannot be asked.
        """
        ends = self.watermarks(topic, partition)
        found: list[RawMessage | None] = []
        size = 0
        try:
            with self._lock, closing(self._read(topic, partition, offsets, ends)) as read:
                for message in read:
                    found.append(message)
                    if message is not None:
                        size += keeping.size(message)
                    if size >= most:
                        break
        except UnavailableError as error:
            if not found:
                # Away, says this; else that the message cannot be read, or is gone by now.
                low, _ = self.watermarks(topic, partition)
                if low <= offsets[0]:
                    raise Unreadable(error.message, hint=error.hint) from None
                found.append(None)
        return found

    def _read(
        self, topic: str, partition: int, offsets: Sequence[int], ends: tuple[int, int]
    ) -> Generator[RawMessage | None, None, None]:
        last, at = None, NO_OFFSET
        try:
            for offset in offsets:
                if not ends[0] <= offset < ends[1]:
                    yield None
                    continue
                if not at <= offset <= at + NEAR:
                    self._consumer.assign([TopicPartition(topic, partition, offset)])
                    at = NO_OFFSET
                while at < offset:
                    last = raw_message(self._next(topic, partition, offset))
                    at = last.offset
                yield last if at == offset else None
        finally:
            self._consumer.unassign()

    def _first(self, topic: str, partition: int, offset: int) -> Message:
        with self._lock:
            self._consumer.assign([TopicPartition(topic, partition, offset)])
            try:
                return self._next(topic, partition, offset)
            finally:
                self._consumer.unassign()

    def _next(self, topic: str, partition: int, offset: int) -> Message:
        message = self._consumer.poll(TIMEOUT_S)
        if message is None:
            raise UnavailableError(
                f"kafka gives no message of {topic}[{partition}] from {offset} on",
                hint="is the broker up? It is asked again",
            )
        if message.error() is not None:
            raise UnavailableError(f"kafka: {message.error()}")
        return message

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def _ask(self, question: Any) -> Any:
        try:
            with self._lock:
                self._renew()
                return question()
        except KafkaException as error:
            raise UnavailableError(
                f"kafka cannot be asked: {error.args[0]}", hint="are the brokers up?"
            ) from None


class KeysTopic:
    """Reads a topic from its start and can tell when it is at the end."""

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self.topic = topic
        self._config = dict(config)
        self._watched = connections.Watched(config)
        self._consumer = self._open()
        self._next: dict[int, int] = {}

    def _open(self) -> Consumer:
        return Consumer(
            self._config
            | {
                "group.id": f"sealtrail-{self.topic}-reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
            },
            logger=rdkafka,
        )

    def _renew(self) -> None:
        if self._watched.changed():
            fresh = self._open()
            fresh.assign([TopicPartition(self.topic, p, at) for p, at in self._next.items()])
            self._consumer.close()
            self._consumer = fresh

    def read_to_end(self) -> list[tuple[int, RawMessage]]:
        """(partition, message) of everything that came since the last call, up to the end now.

        Raises:
            UnavailableError: the end cannot be found or reached.
        """
        try:
            self._renew()
            ends = self._ends()
            found: list[tuple[int, RawMessage]] = []
            deadline = time.monotonic() + TIMEOUT_S
            while any(self._next[p] < end for p, end in ends.items()):
                if time.monotonic() > deadline:
                    raise UnavailableError(f"{self.topic} cannot be read to its end")
                for message in self._consumer.consume(500, timeout=0.2):
                    found += self._take(message)
                self._skip_holes(ends)
        except KafkaException as error:
            raise UnavailableError(f"{self.topic} cannot be read: {error.args[0]}") from None
        return found

    def _ends(self) -> dict[int, int]:
        if not self._next:
            metadata = self._consumer.list_topics(self.topic, timeout=TIMEOUT_S)
            found = metadata.topics[self.topic]
            if found.error is not None or not found.partitions:
                # Nothing was ever published there; the next call looks again.
                return {}
            assigned = []
            for number in found.partitions:
                low, _ = self._watermarks(number)
                self._next[number] = low
                assigned.append(TopicPartition(self.topic, number, low))
            self._consumer.assign(assigned)
        return {number: self._watermarks(number)[1] for number in self._next}

    def _watermarks(self, number: int) -> tuple[int, int]:
        where = TopicPartition(self.topic, number)
        found = self._consumer.get_watermark_offsets(where, timeout=TIMEOUT_S, cached=False)
        if found is None:
            raise UnavailableError(f"{self.topic}[{number}] does not say where it ends")
        return int(found[0]), int(found[1])

    def _take(self, message: Message) -> list[tuple[int, RawMessage]]:
        if message.error() is not None:
            raise KafkaException(message.error())
        number = int(message.partition() or 0)
        raw = raw_message(message)
        self._next[number] = max(self._next[number], raw.offset + 1)
        return [(number, raw)]

    def _skip_holes(self, ends: Mapping[int, int]) -> None:
        # Compaction and control records leave offsets that no message fills: the position knows.
        for where in self._consumer.position([TopicPartition(self.topic, p) for p in ends]):
            self._next[where.partition] = max(self._next[where.partition], where.offset)

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()


def raw_message(message: Message) -> RawMessage:
    """A message of confluent_kafka as a value of ours, without its headers.

    No record has any that count, and a name among them that is no UTF-8, by whoever may write to
    the topic, leaves confluent_kafka with a half-made tuple and the process in an undefined state.
    """
    kind, milliseconds = message.timestamp()
    return RawMessage(
        int(message.offset() or 0),
        message.key(),
        message.value(),
        (),
        milliseconds * 1000,
        kind == TIMESTAMP_LOG_APPEND_TIME,
    )


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
