"""Rows E9 and E10 of the catalogue, on Apache Kafka: a broker that dies, a log cut short."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from tests.faults import verdict
from tests.faults.field import Field
from tests.scenarios import conservation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Say = Callable[[str], None]

TOPIC = "provenance.events"
RATE = 100
AWAY_S = 60.0
GONE = 7
# Generous: the machine may have other work to do.
CAUGHT_UP_S = 600.0


@pytest.fixture
def field() -> Iterator[Field]:
    with Field(RATE, services=2, real=True) as where:
        yield where


@pytest.mark.row("E9")
def test_broker_killed_restarted_and_away(field: Field, happened: Say) -> None:
    field.begin()
    field.caught_up(CAUGHT_UP_S)
    field.kill_server(field.broker)
    field.start_servers()
    field.caught_up(CAUGHT_UP_S)
    field.kill_server(field.broker)
    # What the log has is visible soon; what is promised from here on lies in spools.
    before = field.promised()
    time.sleep(AWAY_S)
    spooled = field.promised() - before
    assert spooled > RATE * AWAY_S / 2
    field.start_servers()
    seconds = field.caught_up(CAUGHT_UP_S)
    field.end_load()
    field.drain(CAUGHT_UP_S)
    # Nothing lost or doubled, no false alarm, the law, a clean audit.
    assert verdict.reach(field).problems == []
    assert out_of_order(field) == 0
    happened(
        f"killed twice, away for {AWAY_S:.0f} s, {spooled} events spooled meanwhile; all visible"
        f" {seconds:.0f} s later; nothing lost, each once, in order; the law holds"
    )


def out_of_order(field: Field) -> int:
    """Batches that stand in the log before one that their chain signed earlier."""
    return field.number(
        "SELECT countIf(batch_seq < highest) FROM (SELECT batch_seq, max(batch_seq) OVER"
        " (PARTITION BY chain_id ORDER BY offset) AS highest FROM batches FINAL)"
    )


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
