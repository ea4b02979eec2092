"""The heads topic over confluent-kafka: all partitions, from their end on, in no group."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from sealtrail import connections
from sealtrail_processor.kafka.client import rdkafka

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

# Heads are stale after seconds: none waits for long.
HEADS_QUEUE, HEADS_TIMEOUT_S = 1_000, 30.0
LOOK_S, ANSWER_S = 30.0, 1.0
AT_ONCE = 1_000


class KafkaHeads:
    """See heads.HeadsTopic. Only the linker's thread reads.

    From the end on: what was told before is in the store, which is asked of each parent first.

    Args:
        config: librdkafka's, with bootstrap.servers.
        topic: its name; it may be missing, and is looked for now and then.
    """

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self._topic = topic
        self._config = dict(config) | {
            # librdkafka wants a name; partitions are assigned here, so that nothing is joined.
            "group.id": f"sealtrail-{topic}-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "latest",
            "allow.auto.create.topics": False,
        }
        self._watched = connections.Watched(config)
        self._consumer = Consumer(self._config, logger=rdkafka)
        self._assigned: set[int] = set()
        self._looked: float | None = None

    def present(self) -> bool:
        """See HeadsTopic."""
        return bool(self._assigned)

    def read(self) -> list[bytes]:
        """See HeadsTopic."""
        try:
            if self._watched.changed():
                self._consumer.close()
                self._consumer = Consumer(self._config, logger=rdkafka)
                self._assigned, self._looked = set(), None
            self._look()
            if not self._assigned:
                return []
            found = []
            for message in self._consumer.consume(AT_ONCE, timeout=0.0):
                value = message.value()
                if message.error() is None and value is not None:
                    found.append(value)
        except KafkaException as error:
            log.debug("%s is not read just now: %s", self._topic, error.args[0])
            return []
        return found

    def _look(self) -> None:
        """Take partitions that are new; all, when the topic has come."""
        now = time.monotonic()
        if self._looked is not None and now - self._looked < LOOK_S:
            return
        self._looked = now
        metadata = self._consumer.list_topics(self._topic, timeout=ANSWER_S)
        topic = metadata.topics.get(self._topic)
        there = set() if topic is None or topic.error is not None else set(topic.partitions)
        fresh = there - self._assigned
        if fresh:
            self._consumer.incremental_assign(
                [TopicPartition(self._topic, number, OFFSET_END) for number in sorted(fresh)]
            )
        gone = self._assigned - there
        if gone:
            self._consumer.incremental_unassign([TopicPartition(self._topic, n) for n in gone])
        self._assigned = there

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()
