"""Row E10 of the catalogue, on Apache Kafka: a log that has lost its start."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from tests.faults.field import Field
from tests.scenarios import conservation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Say = Callable[[str], None]

pytestmark = pytest.mark.xdist_group("broker")
TOPIC = "provenance.events"
GONE = 7
CAUGHT_UP_S = 180.0


@pytest.fixture(scope="module")
def field() -> Iterator[Field]:
    with Field(100, services=2, real=True) as where:
        yield where


@pytest.mark.row("E10")
def test_log_begins_after_the_cursor(field: Field, happened: Say) -> None:
    scene = field.forger.scene
    chain = scene.chain("orders", 0)
    scene.accept(chain.make())
    scene.flush()
    field.drain(CAUGHT_UP_S)
    leaving = list(field.workers)
    for worker in leaving:
        field.supervisor.dismiss(worker, signal.SIGTERM, 20)
    field.workers.clear()
    for number in range(GONE):
        scene.publish(TOPIC, None, b"gone before it was read %d" % number)
    scene.flush()
    remaining = chain.make()
    scene.accept(remaining)
    scene.flush()
    first = scene.sent[0].offset + 1
    admin = AdminClient({"bootstrap.servers": field.addresses["SEALTRAIL_KAFKA_BOOTSTRAP"]})
    place = TopicPartition(TOPIC, 0, first + GONE)
    admin.delete_records([place], request_timeout=30)[place].result()
    field.workers += [field.add_worker(worker.name) for worker in leaving]
    field.drain(CAUGHT_UP_S)
    (row,) = field.sql(
        "SELECT partition, offset, detail FROM findings WHERE code = 'DATA_LOSS_WINDOW'"
    )
    assert (row["partition"], row["offset"]) == (0, first)
    assert f"offsets {first} to {first + GONE - 1} were gone" in row["detail"]
    law = conservation.check(field.folder)
    assert law.differences == []
    assert law.dispositions["lost"] == GONE
    happened(
        f"DATA_LOSS_WINDOW: {row['detail']}; {GONE} offsets committed as lost, read on behind them"
    )
