"""How far a consumer group has come."""

from __future__ import annotations

import ctypes

from confluent_kafka import Consumer, KafkaException, TopicPartition

from sealtrail import connections
from sealtrail.errors import UnavailableError
from sealtrail_producer.kafka.clients import METADATA_S, Config, consumer, reason


class KafkaGroup:
    """Committed offsets of a consumer group, read without joining it."""

    def __init__(self, properties: Config, group: str) -> None:
        self._properties, self._group = properties, group
        self._watched = connections.Watched(properties)
        self._opened = consumer(properties, group)

    @property
    def _consumer(self) -> Consumer:
        if self._watched.changed():
            fresh = consumer(self._properties, self._group)
            self._opened.close()
            self._opened = fresh
        return self._opened

    def cluster(self) -> str:
        """The cluster's id."""
        try:
            return str(self._consumer.list_topics(timeout=METADATA_S).cluster_id)
        except KafkaException as error:
            raise UnavailableError(f"cluster id: {reason(error)}") from None

    def consumed(self, topic: str, partition: int) -> int:
        """The next offset that the group wants; 0 while it has none."""
        try:
            (found,) = self._consumer.committed([TopicPartition(topic, partition)], METADATA_S)
        except KafkaException as error:
            raise UnavailableError(f"consumer group offsets: {reason(error)}") from None
        return max(int(found.offset), 0)

    def end(self, topic: str, partition: int) -> int:
        """The next offset that the log will give."""
        try:
            marks = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), METADATA_S, cached=False
            )
        except KafkaException as error:
            raise UnavailableError(f"log end of {topic}: {reason(error)}") from None
        return int(marks[1])

    def close(self) -> None:
        """Leave."""
        self._opened.close()

    def abandon(self) -> None:
        """As `KafkaTransport.abandon`."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._opened))
