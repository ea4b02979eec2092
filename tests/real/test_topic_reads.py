"""A real topic as the side client reads it: all that the stream was given, until it is dropped."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from sealtrail_audit.conservation.kafka import KafkaBroker
from sealtrail_processor.kafka.beside import KafkaSide

if TYPE_CHECKING:
    from tests.conftest import Stack

TOPIC = "read-beside-the-stream"


def test_what_no_transaction_committed_is_there_and_what_was_dropped_is_not(
    real_stack: Stack,
) -> None:
    bootstrap = real_stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"]
    config: dict[str, str | int | float | bool | None] = {"bootstrap.servers": bootstrap}
    admin = AdminClient(config)
    (made,) = admin.create_topics([NewTopic(TOPIC, num_partitions=1)]).values()
    made.result(30)
    producer = Producer(config | {"transactional.id": "a-stranger"})
    producer.init_transactions(30)
    # Aborted: offset 0, and its marker at 1. Then one that is left open: offset 2.
    for value in (b"aborted", b"open"):
        producer.begin_transaction()
        producer.produce(TOPIC, value, b"k", partition=0)
        assert producer.flush(30) == 0
        if value == b"aborted":
            producer.abort_transaction(30)
    with closing(KafkaSide(config, "group")) as side:
        assert side.watermarks(TOPIC, 0) == (0, 3)
        found = side.messages(TOPIC, 0, [0, 1, 2, 3], 1 << 20)
        assert [m and m.value for m in found] == [b"aborted", None, b"open", None]
        # The audit holds the stream against the same messages.
        with closing(KafkaBroker(config, "group")) as audit:
            (seen,) = audit.sides(TOPIC)
            assert (seen.start, seen.end) == (0, 3)
            held = [audit.message_in(seen.place, n, n) for n in range(3)]
            assert held == [0, None, 2]
        (dropped,) = admin.delete_records([TopicPartition(TOPIC, 0, 2)]).values()
        dropped.result(30)
        found = side.messages(TOPIC, 0, [0, 2], 1 << 20)
        assert [m and m.value for m in found] == [None, b"open"]
    producer.abort_transaction(30)
