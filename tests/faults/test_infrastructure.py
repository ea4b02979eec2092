"""Rows E1 to E3 and E11 of the catalogue: a store and members that fail.

One pipeline under load for all of them, on the embedded servers. At the end of each row readers see
everything that was promised by then, and the conservation law holds.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.faults.field import Field
from tests.faults.injectors.all import FAULTS
from tests.faults.injectors.sink import during
from tests.faults.proxy import Manners
from tests.faults.store_away import WORKER_MB
from tests.scenarios import conservation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Say = Callable[[str], None]

pytestmark = pytest.mark.xdist_group("infrastructure")
AWAY_S = 40.0
CAUGHT_UP_S = 180.0


@pytest.fixture(scope="module")
def field() -> Iterator[Field]:
    with Field(100, services=2, forge_s=3) as where:
        where.begin()
        where.forger.start()
        where.caught_up(CAUGHT_UP_S)
        yield where
        where.forger.finish()


def intact(field: Field) -> str:
    """Everything that was promised by now is there, and the law holds; how long that took."""
    seconds = field.caught_up(CAUGHT_UP_S)
    assert conservation.check(field.folder, drained=False).differences == []
    return f"caught up {seconds:.0f} s later, nothing lost"


def waiting(field: Field) -> list[str]:
    """What the workers say that they wait for, without those that wait for nothing."""
    return [said for worker in field.workers if (said := field.waits_for(worker.name))]


@pytest.mark.row("E1")
def test_store_away(field: Field, happened: Say) -> None:
    before = {worker.name: len(worker.ends) for worker in field.workers}
    field.kill_server("store")
    field.store_proxy.behave(Manners(refuse=True))
    told, highest = set[str](), 0
    try:
        time.sleep(5)
        offsets, end = conservation_group(field), time.monotonic() + AWAY_S
        while time.monotonic() < end:
            highest = max(highest, *(worker.resident_kb() >> 10 for worker in field.workers))
            told.update(waiting(field))
            time.sleep(1)
        assert conservation_group(field) == offsets
    finally:
        field.store_proxy.behave(Manners())
        field.start_servers()
    assert any("store" in said for said in told)
    after = intact(field)
    assert highest < WORKER_MB
    # Who is between two assignments may leave (docs/worker.md), in good order.
    assert {s for worker in field.workers for s in worker.ends[before[worker.name] :]} <= {3}
    happened(f"held for {AWAY_S:.0f} s, workers at {highest} MB at most; {after}")


def conservation_group(field: Field) -> dict[int, int]:
    """Offsets that the group has committed, by partition."""
    from confluent_kafka import Consumer, TopicPartition

    config = {
        "bootstrap.servers": field.addresses["SEALTRAIL_KAFKA_BOOTSTRAP"],
        "group.id": "sealtrail",
        "enable.auto.commit": False,
    }
    with contextlib.closing(Consumer(config)) as consumer:
        asked = [TopicPartition("provenance.events", n) for n in range(4)]
        return {at.partition: at.offset for at in consumer.committed(asked, timeout=30)}


@pytest.mark.row("E2")
def test_store_slow_and_dropping(field: Field, happened: Say) -> None:
    during(field, Manners(delay_s=5), 20)
    during(field, Manners(drop_reply=True), 10)
    after = intact(field)
    doubled = field.number(
        "SELECT count() - uniqExact(chain_id, seq, branch) FROM provenance.events"
    )
    assert doubled == 0
    happened(f"5 s an answer for 20 s, then done without an answer for 10 s; {after}")


@pytest.mark.row("E3")
def test_store_disk_full(field: Field, happened: Say) -> None:
    how = field.store_disk.fill([field.server_pid("store")], field.store_margin // 2)
    try:
        end = time.monotonic() + 30
        while not (told := waiting(field)):
            assert time.monotonic() < end
            time.sleep(0.5)
        time.sleep(8)
    finally:
        field.store_disk.relieve()
    happened(f"{how}; held: {told[0][:80]}; {intact(field)}")


@pytest.mark.row("E11")
def test_rebalances_kills_and_zombies(field: Field, happened: Say) -> None:
    rng = random.Random(11)
    did = [f"{kind}: {FAULTS[kind](field, rng)}" for kind in ("rebalance-storm", "worker-kill")]
    zombie = field.workers[0]
    zombie.send(signal.SIGSTOP)
    time.sleep(10)
    zombie.send(signal.SIGCONT)
    happened(f"{'; '.join(did)}; {zombie.name} frozen for 10 s, past its session; {intact(field)}")
