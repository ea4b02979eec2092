"""The only module that imports confluent_kafka: brokers, schema registry, group offsets."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from sealtrail import connections
from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_producer.ports import BusyError, Delivered, Delivery, Message
from sealtrail_producer.signing import read_private

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sealtrail_producer.settings import ProducerSettings

log = logging.getLogger(__name__)


def _quiet(record: logging.LogRecord) -> bool:
    """Show librdkafka's lines (a retry is an ERROR to it) to those who debug alone."""
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return _client_log.isEnabledFor(logging.DEBUG)


# Lost connections and refusals are reported by the sender in its own words.
_client_log = logging.getLogger(__name__ + ".client")
_client_log.addFilter(_quiet)

METADATA_S = 5.0
# With new certificates at hand: what is under way may be acknowledged for so long.
DRAIN_S = 10.0
BROKERS_HINT = "check SEALTRAIL_KAFKA_BOOTSTRAP; `sealtrail local up` starts the embedded stack"
Config = dict[str, Any]


def config(settings: ProducerSettings, identity: str) -> Config:
    """Librdkafka properties of all clients.

    Args:
        identity: the name under which they come.
        settings: brokers and transport; `kafka_config` names a file with further properties
            (compression, buffers) as name=value lines, which may hold passwords.

    Raises:
        ConfigurationError: the file is open to others or holds something else.
    """
    found: Config = {**connections.librdkafka(settings, identity), "client.id": "sealtrail"}
    file = settings.kafka_config
    if file is None:
        return found
    for number, line in enumerate(read_private(file).decode(errors="replace").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise ConfigurationError(f"{file}:{number} is not name=value")
        found[name.strip()] = value.strip()
    return found


def check_identity(settings: ProducerSettings, producer: str) -> None:
    """See that the brokers know a producer under the name that its keys speak for.

    Raises:
        ConfigurationError: they know it under another, and that is not allowed.
    """
    name = connections.name(settings, producer)
    if name is None or name == producer:
        return
    message = f"this client comes to Kafka as {name!r} and signs as {producer!r}"
    if settings.identity_mismatch == "refuse":
        raise ConfigurationError(
            message, hint=f"give it a certificate or user of the name {producer}"
        )
    log.warning("%s: SEALTRAIL_IDENTITY_MISMATCH allows it", message)


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
                logger=_client_log,
            )
        except KafkaException as error:
            raise ConfigurationError(f"Kafka client: {_reason(error)}") from None

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        try:
            found = self._producer.list_topics(topic, timeout=METADATA_S).topics[topic]
        except KafkaException as error:
            raise UnavailableError(
                f"Kafka brokers cannot be reached: {_reason(error)}",
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
            return f"they cannot be reached: {_reason(error)}"
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
            raise UnavailableError(f"Kafka client: {_reason(error)}") from None

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


class KafkaRegistry:
    """Confluent's schema registry client."""

    def __init__(self, settings: ProducerSettings, identity: str) -> None:
        found = connections.registry(settings, identity)
        try:
            self._client = SchemaRegistryClient({**found, "timeout": METADATA_S, "max.retries": 0})
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"schema registry client: {error}", hint="check SEALTRAIL_REGISTRY_*"
            ) from None

    def register(self, subject: str, schema: str, compatibility: str) -> int:
        """Id of a schema under a subject.

        Who finds it there needs no right to register; else the subject's compatibility comes first.
        """
        wanted = Schema(schema, "AVRO")
        try:
            try:
                return self._register(subject, wanted, compatibility)
            except SchemaRegistryError as error:
                if error.http_status_code != 409:
                    raise
                # Of two that begin at the same moment Apicurio refuses one. It finds all in place
                # now; a schema that does not fit is refused again.
                return self._register(subject, wanted, compatibility)
        except SchemaRegistryError as error:
            if error.http_status_code in (409, 422):
                raise ConfigurationError(
                    f"schema registry refuses {subject}: {error.error_message}",
                    hint="another version of Sealtrail may have registered there",
                ) from None
            if error.http_status_code in (401, 403):
                # Not final: batches wait in the spool until somebody has mended it.
                raise UnavailableError(
                    f"schema registry denies {subject} to this client ({error.http_status_code})",
                    hint="an operator registers schemas with: sealtrail schemas register; else"
                    " check SEALTRAIL_REGISTRY_* and deploy/kafka/access.yaml",
                ) from None
            raise UnavailableError(f"schema registry: {error.error_message}") from None
        except Exception as error:  # noqa: BLE001 - the client lets its HTTP library's errors through
            raise UnavailableError(
                f"schema registry cannot be reached: {type(error).__name__}",
                hint="check SEALTRAIL_REGISTRY_URL; `sealtrail local up` starts the embedded stack",
            ) from None

    def _register(self, subject: str, schema: Schema, compatibility: str) -> int:
        found = self._held(subject, schema)
        if found is not None:
            return found
        self._client.set_compatibility(subject_name=subject, level=compatibility)
        return int(self._client.register_schema(subject, schema))

    def _held(self, subject: str, schema: Schema) -> int | None:
        try:
            found = self._client.lookup_schema(subject, schema)
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                return None
            raise
        return None if found.schema_id is None else int(found.schema_id)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


class KafkaGroup:
    """Committed offsets of a consumer group, read without joining it."""

    def __init__(self, properties: Config, group: str) -> None:
        self._properties, self._group = properties, group
        self._watched = connections.Watched(properties)
        self._opened = _consumer(properties, group)

    @property
    def _consumer(self) -> Consumer:
        if self._watched.changed():
            fresh = _consumer(self._properties, self._group)
            self._opened.close()
            self._opened = fresh
        return self._opened

    def cluster(self) -> str:
        """The cluster's id."""
        try:
            return str(self._consumer.list_topics(timeout=METADATA_S).cluster_id)
        except KafkaException as error:
            raise UnavailableError(f"cluster id: {_reason(error)}") from None

    def consumed(self, topic: str, partition: int) -> int:
        """The next offset that the group wants; 0 while it has none."""
        try:
            (found,) = self._consumer.committed([TopicPartition(topic, partition)], METADATA_S)
        except KafkaException as error:
            raise UnavailableError(f"consumer group offsets: {_reason(error)}") from None
        return max(int(found.offset), 0)

    def end(self, topic: str, partition: int) -> int:
        """The next offset that the log will give."""
        try:
            marks = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), METADATA_S, cached=False
            )
        except KafkaException as error:
            raise UnavailableError(f"log end of {topic}: {_reason(error)}") from None
        return int(marks[1])

    def close(self) -> None:
        """Leave."""
        self._opened.close()

    def abandon(self) -> None:
        """As `KafkaTransport.abandon`."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._opened))


def publish(properties: Config, topic: str, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Write (key, value) pairs and wait until the brokers have them.

    Raises:
        UnavailableError: they do not take them.
    """
    failures: list[str] = []
    producer = Producer(
        {**properties, "acks": "all", "message.timeout.ms": 15_000}, logger=_client_log
    )
    count = 0
    for key, value in records:
        producer.produce(
            topic,
            value=value,
            key=key,
            on_delivery=lambda error, _: failures.append(error.str()) if error else None,
        )
        count += 1
    left = producer.flush(20.0)
    if failures or left:
        raise UnavailableError(
            f"{topic}: {failures[0] if failures else 'the brokers do not answer'}",
            hint=BROKERS_HINT,
        )
    return count


def read_all(
    properties: Config, topic: str, timeout_s: float = 10.0
) -> list[tuple[bytes, bytes, int]]:
    """(key, value, timestamp in microseconds) of all that a topic holds now.

    Raises:
        UnavailableError: the brokers do not answer in time.
    """
    consumer = _consumer(properties, "sealtrail-reader")
    try:
        known = consumer.list_topics(topic, timeout=METADATA_S).topics[topic].partitions
        places = [TopicPartition(topic, p, OFFSET_BEGINNING) for p in known]
        ends = {p.partition: consumer.get_watermark_offsets(p, METADATA_S)[1] for p in places}
        consumer.assign(places)
        open_ends = {p for p, end in ends.items() if end > 0}
        found = []
        while open_ends:
            record = consumer.poll(timeout_s)
            if record is None:
                raise UnavailableError(f"{topic}: the brokers do not answer")
            place, offset, error = record.partition(), record.offset(), record.error()
            if error is not None:
                raise UnavailableError(f"{topic}: {error.str()}")
            found.append((record.key() or b"", record.value() or b"", record.timestamp()[1] * 1000))
            if place is not None and (offset or 0) + 1 >= ends[place]:
                open_ends.discard(place)
    except KafkaException as error:
        raise UnavailableError(f"{topic}: {_reason(error)}", hint=BROKERS_HINT) from None
    else:
        return found
    finally:
        consumer.close()


def _consumer(properties: Config, group: str) -> Consumer:
    return Consumer(
        {
            **properties,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        },
        logger=_client_log,
    )


def _reason(error: KafkaException) -> str:
    first = error.args[0] if error.args else error
    return str(first.str() if isinstance(first, KafkaError) else first)
