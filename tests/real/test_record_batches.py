"""A record batch that a real broker takes and aiokafka cannot read."""

import asyncio
import subprocess
import sys
from typing import Any

import aiokafka.consumer.fetcher
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from tests.conftest import Stack
from tests.scenarios.scene import BEHIND

from sealtrail_processor.kafka.header_names import Records

# Kept as it is sent, as Kafka does by default; the topic of events is compressed anew, with zstd.
TOPIC = "as-it-is-sent"


async def values(bootstrap: str, count: int) -> list[tuple[int, Any]]:
    """The first messages of partition 0."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(TOPIC, 0)])
        read = [await asyncio.wait_for(consumer.getone(), 30) for _ in range(count)]
        return [(message.offset, message.value) for message in read]
    finally:
        await consumer.stop()


def test_what_is_behind_the_end_of_a_frame(
    real_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap = real_stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (made,) = admin.create_topics([NewTopic(TOPIC)]).values()
    made.result(30)
    env = real_stack.env | {"AIOKAFKA_NO_EXTENSIONS": "1"}
    done = subprocess.run(
        [sys.executable, str(BEHIND), TOPIC, "0"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    # The broker took it.
    assert done.returncode == 0, done.stderr
    first = int(done.stdout)
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(TOPIC, b"next", partition=0)
    assert producer.flush(30) == 0
    monkeypatch.setattr(aiokafka.consumer.fetcher, "MemoryRecords", Records)
    assert asyncio.run(values(bootstrap, 2)) == [(first, None), (first + 1, b"next")]
