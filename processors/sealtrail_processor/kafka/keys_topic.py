"""The keys topic: read from its start, and known to be at its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from sealtrail import connections
from sealtrail.errors import UnavailableError
from sealtrail_processor.kafka.client import TIMEOUT_S, raw_message, rdkafka

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message

    from sealtrail_processor.judging.model import RawMessage


# Messages of one question to librdkafka.
MOST = 500


class KeysTopic:
    """Reads a topic from its start and can tell when it is at the end.

    Where the end is, is asked before each flush, while nothing is being fetched: a broker answers
    on one connection in order, so that the question would wait until a fetch that finds nothing has
    waited, a twentieth of a second on average.
    """

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
                # Compaction and control records leave offsets that no message fills.
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 100,
            },
            logger=rdkafka,
        )

    def _renew(self) -> None:
        if self._watched.changed():
            fresh = self._open()
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
            behind = {p: end for p, end in ends.items() if self._next[p] < end}
            return self._read(behind) if behind else []
        except KafkaException as error:
            raise UnavailableError(f"{self.topic} cannot be read: {error.args[0]}") from None

    def _read(self, ends: Mapping[int, int]) -> list[tuple[int, RawMessage]]:
        found: list[tuple[int, RawMessage]] = []
        # Taken over at the end: what an error interrupts is read once more.
        reached = {number: self._next[number] for number in ends}
        deadline = time.monotonic() + TIMEOUT_S
        self._consumer.assign([TopicPartition(self.topic, n, at) for n, at in reached.items()])
        try:
            # No more than there are: else it would wait for others.
            while left := sum(max(end - reached[n], 0) for n, end in ends.items()):
                if time.monotonic() > deadline:
                    raise UnavailableError(f"{self.topic} cannot be read to its end")
                for message in self._consumer.consume(min(left, MOST), timeout=0.2):
                    deadline = time.monotonic() + TIMEOUT_S
                    number, after, raw = _read_one(message)
                    reached[number] = max(reached[number], after)
                    found += [(number, raw)] if raw is not None else []
        finally:
            self._consumer.unassign()
        self._next |= reached
        return found

    def _ends(self) -> dict[int, int]:
        if not self._next:
            metadata = self._consumer.list_topics(self.topic, timeout=TIMEOUT_S)
            found = metadata.topics[self.topic]
            if found.error is not None or not found.partitions:
                # Nothing was ever published there; the next call looks again.
                return {}
            self._next = {number: self._watermarks(number)[0] for number in found.partitions}
        ends: dict[int, int] = {}
        for number, at in self._next.items():
            low, ends[number] = self._watermarks(number)
            # Made again, or cut off: what it has now was not read.
            self._next[number] = at if at <= ends[number] else low
        return ends

    def _watermarks(self, number: int) -> tuple[int, int]:
        where = TopicPartition(self.topic, number)
        found = self._consumer.get_watermark_offsets(where, timeout=TIMEOUT_S, cached=False)
        if found is None:
            raise UnavailableError(f"{self.topic}[{number}] does not say where it ends")
        return int(found[0]), int(found[1])

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()


def _read_one(message: Message) -> tuple[int, int, RawMessage | None]:
    """Partition, the offset after it, and the message; None for what says that there is no more.

    Raises:
        KafkaException: it says something else.
    """
    number, offset, error = message.partition() or 0, message.offset() or 0, message.error()
    if error is None:
        return number, offset + 1, raw_message(message)
    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own codes begin so
        return number, offset, None
    raise KafkaException(error)
