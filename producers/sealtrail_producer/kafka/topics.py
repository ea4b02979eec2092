"""Small topics, written and read whole: keys, for the desk and for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, KafkaException, Producer, TopicPartition

from sealtrail.errors import UnavailableError
from sealtrail_producer.kafka.clients import (
    BROKERS_HINT,
    METADATA_S,
    Config,
    client_log,
    consumer,
    reason,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


def publish(properties: Config, topic: str, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Write (key, value) pairs and wait until the brokers have them.

    Raises:
        UnavailableError: they do not take them.
    """
    failures: list[str] = []
    producer = Producer(
        {**properties, "acks": "all", "message.timeout.ms": 15_000}, logger=client_log
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
    reader = consumer(properties, "sealtrail-reader")
    try:
        known = reader.list_topics(topic, timeout=METADATA_S).topics[topic].partitions
        places = [TopicPartition(topic, p, OFFSET_BEGINNING) for p in known]
        ends = {p.partition: reader.get_watermark_offsets(p, METADATA_S)[1] for p in places}
        reader.assign(places)
        open_ends = {p for p, end in ends.items() if end > 0}
        found = []
        while open_ends:
            record = reader.poll(timeout_s)
            if record is None:
                raise UnavailableError(f"{topic}: the brokers do not answer")
            place, offset, error = record.partition(), record.offset(), record.error()
            if error is not None:
                raise UnavailableError(f"{topic}: {error.str()}")
            found.append((record.key() or b"", record.value() or b"", record.timestamp()[1] * 1000))
            if place is not None and (offset or 0) + 1 >= ends[place]:
                open_ends.discard(place)
    except KafkaException as error:
        raise UnavailableError(f"{topic}: {reason(error)}", hint=BROKERS_HINT) from None
    else:
        return found
    finally:
        reader.close()
