"""Raw messages on the topic of signed batches: what a stranger with network access could send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail import connections
from sealtrail.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import KafkaError
    from confluent_kafka import Message as Delivered

    from sealtrail_local.settings import LocalSettings

WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Raw:
    """A Kafka message, byte for byte."""

    partition: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


def publish(
    settings: LocalSettings, identity: str, messages: Sequence[Raw]
) -> list[tuple[int, int]]:
    """Send messages as they are; the (partition, offset) of each.

    Args:
        settings: of the stack.
        identity: under whose name a secured broker is asked: who gets hold of a producer's
            password gets so far.
        messages: in the order in which they are sent.

    Raises:
        UnavailableError: the brokers did not take one.
    """
    from confluent_kafka import Producer

    places: dict[int, tuple[int, int]] = {}
    errors: list[str] = []

    def report(index: int) -> Callable[[KafkaError | None, Delivered], None]:
        def delivered(error: KafkaError | None, message: Delivered) -> None:
            if error is not None:
                errors.append(str(error))
            else:
                places[index] = (message.partition() or 0, message.offset() or 0)

        return delivered

    properties = connections.librdkafka(settings, identity)
    producer = Producer({**properties, "acks": "all", "linger.ms": 0})
    for index, raw in enumerate(messages):
        producer.produce(
            settings.topic,
            partition=raw.partition,
            key=raw.key,
            value=raw.value,
            headers=list(raw.headers),
            on_delivery=report(index),
        )
    left = producer.flush(WAIT_S)
    if left or errors:
        why = errors[0] if errors else f"no answer within {WAIT_S:.0f} s"
        raise UnavailableError(f"messages could not be sent to {settings.kafka_bootstrap}: {why}")
    return [places[index] for index in range(len(messages))]
