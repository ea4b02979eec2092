"""Key and schema records come back to a broker that has forgotten them."""

import base64
import json
import time

from confluent_kafka import Consumer, TopicPartition
from tests.conftest import Stack, running_stack
from tests.local.conftest import connector, kill

from sealtrail.settings import load
from sealtrail_local import stack as stack_module
from sealtrail_local.settings import LocalSettings

RECORDS = [(b"key-1", b"\x00\x00\x00\x00\x01one"), (b"", b"\xff\xfe two"), (b"key-1", b"three")]


def published(stack: Stack) -> list[tuple[bytes | None, bytes]]:
    """All records on the topic of keys."""
    consumer = Consumer(
        {
            "bootstrap.servers": stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"],
            "group.id": "test",
            "enable.auto.commit": False,
        }
    )
    partition = TopicPartition("provenance.keys", 0, 0)
    _, end = consumer.get_watermark_offsets(partition, timeout=5)
    consumer.assign([partition])
    found: list[tuple[bytes | None, bytes]] = []
    deadline = time.monotonic() + 10
    while len(found) < end and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None:
            assert message.error() is None
            found.append((message.key(), message.value()))
    consumer.close()
    return found


def test_records_are_published_in_order_to_a_new_broker_only():
    with running_stack() as stack:
        settings = load(LocalSettings, stack.env)
        assert published(stack) == []
        client = connector(stack)()
        client.command(
            "CREATE TABLE key_records (record_value String, record_key String, "
            "arrival DateTime64(6, 'UTC'), log_id String, topic String, `partition` Int32, "
            "`offset` Int64) ENGINE = MergeTree ORDER BY arrival"
        )
        rows = [
            {
                "record_key": base64.b64encode(key).decode(),
                "record_value": base64.b64encode(value).decode(),
                "arrival": f"2026-01-01 00:00:0{second}",
                "log_id": log_id,
                "offset": i,
            }
            for log_id in ("log-1", "log-2")  # the same records as another broker had them
            for i, (second, (key, value)) in enumerate(zip((1, 2, 2), RECORDS, strict=True))
        ]
        client.command(
            "INSERT INTO key_records SELECT base64Decode(record_value), base64Decode(record_key), "
            "arrival, log_id, 'provenance.keys', 0, offset FROM input('record_key String, "
            "record_value String, arrival DateTime64(6), log_id String, offset Int64') "
            "FORMAT JSONEachRow",
            data="\n".join(json.dumps(row) for row in rows),
        )
        client.close()
        stack_module.up(settings, print)
        assert published(stack) == [], "this broker has had them"
        said: list[str] = []
        kill(stack, "broker")
        stack_module.up(settings, said.append)
        expected = [(key or None, value) for key, value in RECORDS]
        assert published(stack) == expected
        assert said[-1] == "3 key and schema records published again from the store"
        stack_module.up(settings, said.append)
        assert published(stack) == expected
