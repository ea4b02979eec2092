"""Messages to the brokers."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from sealtrail import connections
from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_producer.kafka.clients import (
    BROKERS_HINT,
    METADATA_S,
    Config,
    client_log,
    reason,
)
from sealtrail_producer.ports import BusyError, Delivered, Delivery, Message

log = logging.getLogger(__name__)

# With new certificates at hand: what is under way may be acknowledged for so long.
DRAIN_S = 10.0


class KafkaTransport:
    """An idempotent producer: acks=all, in order, no timeout: the spool keeps what waits.

    librdkafka reads certificates once: when the files are replaced another producer takes over,
    as soon as nothing is under way, so that nothing is sent twice.
    """

    def __init__(self, properties: Config) -> None:
        self._properties = properties
        self._watched = connections.Watched(properties)
        self._replaced_at: float | None = None
        self._producer = self._open()

    def _open(self) -> Producer:
        try:
            return Producer(
                {
                    "linger.ms": 5,
                    "message.max.bytes": 8_388_608,
                    **self._properties,
                    "acks": "all",
                    "enable.idempotence": True,
                    "message.timeout.ms": 0,
                },
                logger=client_log,
            )
        except KafkaException as error:
            raise ConfigurationError(f"Kafka client: {reason(error)}") from None

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        try:
            found = self._producer.list_topics(topic, timeout=METADATA_S).topics[topic]
        except KafkaException as error:
            raise UnavailableError(
                f"Kafka brokers cannot be reached: {reason(error)}",
                hint=BROKERS_HINT,
            ) from None
        if found.error is not None or not found.partitions:
            raise UnavailableError(f"topic {topic}: {found.error or 'has no partitions yet'}")
        return len(found.partitions)

    def standing(self, topic: str, partition: int) -> str:
        """What the brokers say of a partition, for people."""
        try:
            found = self._producer.list_topics(topic, timeout=METADATA_S).topics[topic]
        except KafkaException as error:
            return f"they cannot be reached: {reason(error)}"
        there = found.partitions.get(partition)
        if there is None:
            return f"partition {partition} is not there"
        if there.leader < 0:
            return f"partition {partition} has no leader"
        held = f"{len(there.isrs)} of {len(there.replicas)} replicas of partition {partition}"
        return f"{held} are in sync; min.insync.replicas may want more"

    def send(self, message: Message, done: Delivered) -> None:
        """Queue a message."""
        if self._replaced_at is not None:
            raise BusyError

        def report(error: KafkaError | None, record: Any) -> None:
            if error is None:
                done(Delivery(record.offset()))
            else:
                final = error.code() == KafkaError.MSG_SIZE_TOO_LARGE
                done(Delivery(-1, error.str(), final))

        try:
            self._producer.produce(
                message.topic,
                value=message.value,
                key=message.key,
                partition=message.partition,
                headers=list(message.headers),
                on_delivery=report,
            )
        except BufferError:
            raise BusyError from None
        except KafkaException as error:
            raise UnavailableError(f"Kafka client: {reason(error)}") from None

    def poll(self, timeout_s: float) -> None:
        """Serve reports."""
        self._producer.poll(timeout_s)
        if self._watched.changed():
            self._replaced_at = time.monotonic()
        if self._replaced_at is not None:
            self._renew(self._replaced_at)

    def _renew(self, replaced_at: float) -> None:
        if len(self._producer):
            if time.monotonic() - replaced_at > DRAIN_S:
                raise UnavailableError("certificates were replaced and the brokers do not answer")
            return
        self._replaced_at = None
        try:
            self._producer = self._open()
        except ConfigurationError as error:
            # Half of a pair, perhaps: the other half will be seen as another change.
            log.warning("%s; going on with the certificates before", error.message)
        else:
            log.info("new certificates are in use")

    def close(self) -> None:
        """Drop what is queued and under way."""
        # The wrapper has no other way to end without waiting for an absent broker.
        with contextlib.suppress(KafkaException):
            self._producer.purge()
            self._producer.poll(0)

    def abandon(self) -> None:
        """Keep a forked copy for ever: its destructor waits for threads that are not there."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
