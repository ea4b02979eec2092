"""The keys topic: read from its start, and known to be at its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from sealtrail import connections
from sealtrail.errors import UnavailableError
from sealtrail_processor.kafka.client import TIMEOUT_S, raw_message, rdkafka

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message

    from sealtrail_processor.judging.model import RawMessage


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
