"""A broker behind Kafka's protocol: watermarks, the group's offsets, single reads.

The only module of the room that imports confluent_kafka, and nobody imports it before a broker is
asked: whoever audits a store alone installs no Kafka client (docs/adr/0055).
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from sealtrail.errors import UnavailableError
from sealtrail_audit.conservation.broker import Side
from sealtrail_audit.conservation.law import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TIMEOUT_S = 30.0
# A hole in the log is passed over by the broker itself; so long may the next message take.
READ_S = 10.0
# A broker that has just started, or a group or partition that moves: asked again for a while.
MOVING = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
}
MOVING_S, PAUSE_S = 30.0, 0.5
rdkafka = logging.getLogger("librdkafka")


class KafkaBroker:
    """Asks with a consumer that joins no group and commits nothing.

    Args:
        config: librdkafka's, with bootstrap.servers.
        group: whose committed offsets are asked for.
    """

    def __init__(self, config: Mapping[str, Any], group: str) -> None:
        self._config = dict(config)
        self._consumer = Consumer(
            self._config
            | {
                "group.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "allow.auto.create.topics": False,
                # As the stream reads: also what a transaction aborted, or has left open. Control
                # records are holes either way.
                "isolation.level": "read_uncommitted",
            },
            logger=rdkafka,
        )

    def sides(self, topic: str) -> list[Side]:
        """Each partition of a topic, as it is now.

        Raises:
            UnavailableError: the broker cannot be asked, or has no such topic.
        """
        metadata = _ask(lambda: self._consumer.list_topics(topic, timeout=TIMEOUT_S))
        found = metadata.topics.get(topic)
        if found is None or found.error is not None:
            raise UnavailableError(f"the broker has no topic {topic}", hint="see SEALTRAIL_TOPIC")
        log_id = self._log_id(metadata, topic)
        asked = [TopicPartition(topic, number) for number in sorted(found.partitions)]
        committed = _ask(lambda: self._consumer.committed(asked, timeout=TIMEOUT_S))
        sides = []
        for at in committed:
            low, high = self._watermarks(TopicPartition(topic, at.partition))
            group = int(at.offset) if at.offset >= 0 else None
            sides.append(Side(Place(log_id, topic, at.partition), low, high, group))
        return sides

    def _watermarks(self, at: TopicPartition) -> tuple[int, int]:
        def ask() -> Any:
            return self._consumer.get_watermark_offsets(at, timeout=TIMEOUT_S, cached=False)

        low, high = _ask(ask)
        return int(low), int(high)

    def _log_id(self, metadata: Any, topic: str) -> str:
        """As the worker names it: cluster id, and topic id where a controller tells it."""
        cluster = str(metadata.cluster_id)
        if metadata.controller_id not in metadata.brokers:
            return cluster
        admin = AdminClient(self._config, logger=rdkafka)
        asked = TopicCollection([topic])
        found = _ask(admin.describe_topics(asked, request_timeout=TIMEOUT_S)[topic].result)
        return f"{cluster}/{found.topic_id}"

    def message_in(self, place: Place, first: int, last: int) -> int | None:
        """Offset of the first message that the log holds among some offsets, None if none.

        Raises:
            UnavailableError: the broker cannot be asked, or nothing comes.
        """
        where = TopicPartition(place.topic, place.partition, first)
        try:
            self._consumer.assign([where])
            deadline = time.monotonic() + READ_S
            while time.monotonic() < deadline:
                message = self._consumer.poll(1.0)
                if message is not None and message.error() is None:
                    offset = int(message.offset() or 0)
                    return offset if offset <= last else None
                position = self._consumer.position([where])[0].offset
                if position > last:
                    return None
        except KafkaException as error:
            raise UnavailableError(f"kafka cannot be asked: {error.args[0]}") from None
        finally:
            self._consumer.unassign()
        raise UnavailableError(f"{place} gives nothing from offset {first} on")

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()


def _ask(question: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + MOVING_S
    while True:
        try:
            return question()
        except KafkaException as error:
            if error.args[0].code() in MOVING and time.monotonic() < deadline:
                time.sleep(PAUSE_S)
                continue
            raise UnavailableError(
                f"kafka cannot be asked: {error.args[0]}",
                hint="are the brokers up? --store-only looks at the store alone",
            ) from None
