"""Questions to Kafka beside the stream: identity of the log, its ends, single messages."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from sealtrail import connections
from sealtrail.errors import UnavailableError
from sealtrail_processor.judging import keeping
from sealtrail_processor.judging.ports import Unreadable
from sealtrail_processor.kafka.client import TIMEOUT_S, raw_message, rdkafka

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from confluent_kafka import Message

    from sealtrail_processor.judging.model import RawMessage

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
