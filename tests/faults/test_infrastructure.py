"""Rows E1 to E3, E11, E13 and E18 of the catalogue: a store, members and machines that fail.

One pipeline under load for all of them, on the embedded servers. At the end of each row readers see
everything that was promised by then and the conservation law holds; at the end of all of them
verdict.py holds everything against the ledgers, as after a fault campaign.
"""

from __future__ import annotations

import contextlib
import random
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.faults import ledger, verdict
from tests.faults.field import Field
from tests.faults.injectors.all import FAULTS
from tests.faults.injectors.descriptors import no_more
from tests.faults.injectors.memory import LARGE, LARGE_EVENTS, PARTITIONS, squeezed
from tests.faults.injectors.sink import during
from tests.faults.proxy import Manners
from tests.faults.store_away import WORKER_MB
from tests.scenarios import conservation

from sealtrail_processor.pipeline.worker import EXIT_FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Say = Callable[[str], None]

AWAY_S = 40.0
# Generous: the machine may have other work to do.
CAUGHT_UP_S = 600.0
WATCHDOG_S = 60.0
LEAVE_S = 30.0
# How long the store takes for an answer, and the flushes by how long they took.
ANSWER_S = 30.0
FLUSHES = re.compile(r'^sealtrail_flush_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)
# What a worker says when the store has no room: the engine's name for it, or the system's.
NO_ROOM = re.compile("NOT_ENOUGH_SPACE|No space left on device|File too large")
# Until a disk that is full is told, and for how long what it holds up is watched.
TOLD_S, STILL_S = 60.0, 8.0


@pytest.fixture(scope="module")
def field() -> Iterator[Field]:
    with Field(100, services=2, forge_s=3) as where:
        where.begin()
        where.forger.start()
        where.caught_up(CAUGHT_UP_S)
        yield where
        where.forger.finish()
        where.end_load()
        where.drain(CAUGHT_UP_S)
        assert verdict.reach(where).problems == []


def intact(field: Field) -> str:
    """Everything that was promised by now is there, and the law holds; how long that took."""
    seconds = field.caught_up(CAUGHT_UP_S)
    assert conservation.check(field.folder, drained=False).differences == []
    return f"caught up {seconds:.0f} s later, nothing lost"


def wait_until(done: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Wait until something holds; seconds that it took."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.25)
    return time.monotonic() - began


def said(path: Path) -> Callable[[], str]:
    """What a log has got since now, to be read later."""
    begin = path.stat().st_size
    return lambda: path.read_bytes()[begin:].decode(errors="replace")


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
    assert {e.status for worker in field.workers for e in worker.ends[before[worker.name] :]} <= {3}
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
    wait_until(lambda: all_work(field), CAUGHT_UP_S, "all workers have partitions")
    ends = {worker.name: len(worker.ends) for worker in field.workers}
    flushes = slow_flushes(field)
    # What is asked for in the second half is answered after it.
    during(field, Manners(delay_s=ANSWER_S), ANSWER_S + 5)
    wait_until(lambda: slow_flushes(field) > flushes, CAUGHT_UP_S, "a flush waited for an answer")
    # Slow is not stuck: nobody was ended for it, or left.
    assert {worker.name: len(worker.ends) for worker in field.workers} == ends
    during(field, Manners(drop_reply=True), 10)
    after = intact(field)
    doubled = field.number(
        "SELECT count() - uniqExact(chain_id, seq, branch) FROM provenance.events"
    )
    assert doubled == 0
    happened(f"{ANSWER_S:.0f} s an answer, then done without an answer for 10 s; {after}")


def all_work(field: Field) -> bool:
    """Whether each worker has partitions and waits for nothing."""
    return all(field.works(worker.name) for worker in field.workers)


def slow_flushes(field: Field) -> float:
    """Flushes of all workers that took as long as a slow answer, by their histograms."""
    slow = 0.0
    for worker in field.workers:
        counts = {edge: float(count) for edge, count in FLUSHES.findall(field.metrics(worker.name))}
        slow += counts["+Inf"] - counts[f"{ANSWER_S:.1f}"]
    return slow


@pytest.mark.row("E3")
def test_store_disk_full(field: Field, happened: Say) -> None:
    how = field.store_disk.fill([field.server_pid("store")], field.store_margin // 2)
    try:
        # Each of them by its own flushes: from then on nothing is under way any more.
        wait_until(lambda: all(no_room(field)), TOLD_S, "all say that there is no room")
        torn = [torn_batches(field)]
        time.sleep(STILL_S)
        torn.append(torn_batches(field))
        law = conservation.check(field.folder, drained=False)
        told = no_room(field)
    finally:
        field.store_disk.relieve()
    assert all(told)
    assert torn == [0, 0]
    assert law.differences == []
    after = intact(field)
    # Two readings of a store that goes on: a commit may fall between them.
    wait_until(lambda: torn_batches(field) == 0, TOLD_S, "all batches are whole")
    happened(f"{how}; all held: {told[0]}; no part of a batch visible then or later; {after}")


def no_room(field: Field) -> list[str]:
    """How each worker names the lack of room; empty where it does not wait for that."""
    found = [NO_ROOM.search(field.waits_for(worker.name)) for worker in field.workers]
    return [match[0] if match else "" for match in found]


def torn_batches(field: Field) -> int:
    """Batches of which readers see other events than its statement counts."""
    return field.number(
        "SELECT count() FROM (SELECT sum(seen) AS seen, sum(signed) AS signed FROM ("
        "SELECT lower(hex(chain_id)) AS chain, batch_seq, branch, 0 AS seen, count AS signed "
        "FROM committed_batches UNION ALL "
        "SELECT chain_id, batch_seq, branch, 1, 0 FROM provenance.events) "
        "GROUP BY chain, batch_seq, branch) WHERE seen != signed"
    )


@pytest.mark.row("E11")
def test_rebalances_kills_and_zombies(field: Field, happened: Say) -> None:
    rng = random.Random(11)
    did = [f"{kind}: {FAULTS[kind](field, rng)}" for kind in ("rebalance-storm", "worker-kill")]
    zombie = field.workers[0]
    zombie.send(signal.SIGSTOP)
    time.sleep(10)
    zombie.send(signal.SIGCONT)
    happened(f"{'; '.join(did)}; {zombie.name} frozen for 10 s, past its session; {intact(field)}")


@pytest.mark.row("E13")
def test_alive_but_not_consuming(field: Field, happened: Say) -> None:
    marker = field.folder / "deaf"
    names = [worker.name for worker in field.workers]
    for worker in field.workers:
        field.supervisor.dismiss(worker, signal.SIGTERM, LEAVE_S)
    field.workers.clear()
    # Alone in the group, so that nobody else moves anything.
    guest = field.add_worker("guest", "deaf", str(marker))
    guest.wanted = False
    try:
        field.answers(guest.name, CAUGHT_UP_S)
        field.caught_up(CAUGHT_UP_S)
        log = said(field.worker_log(guest.name))
        marker.touch()
        seconds = wait_until(lambda: guest.process.poll() is not None, WATCHDOG_S, "it leaves")
    finally:
        status = field.supervisor.dismiss(guest, signal.SIGKILL, 5)
        field.workers += [field.add_worker(name) for name in names]
    assert status == EXIT_FAILED
    assert "nothing moves: leaving" in log()
    happened(f"left with {status} after {seconds:.0f} s; {intact(field)}")


@pytest.mark.row("E18")
def test_out_of_memory_descriptors_and_disk(field: Field, happened: Say) -> None:
    rng = random.Random(18)
    did = [f"memory: {out_of_memory(field, rng)}"]
    did.append(f"descriptors: {out_of_descriptors(field, rng)}")
    field.caught_up(CAUGHT_UP_S)
    did.append(f"spool: {full_spool(field)}")
    happened(f"{'; '.join(did)}; {intact(field)}")


def out_of_memory(field: Field, rng: random.Random) -> str:
    """The kernel ends a worker with a large batch in hand; the next one commits it, once."""
    number = f"SELECT {{}} FROM provenance.events WHERE startsWith(instance, '{LARGE}-')"
    victim = rng.choice(field.workers)
    ends = len(victim.ends)
    wait_until(lambda: field.works(victim.name), CAUGHT_UP_S, "it has partitions")
    did = squeezed(field, victim, 2 << 20, TOLD_S)
    assert "ended by it" in did, (did, victim.ends)
    wait_until(lambda: field.works(victim.name), CAUGHT_UP_S, "another one works in its place")
    # Once, and by the limit alone.
    assert len(victim.ends) == ends + 1
    field.caught_up(CAUGHT_UP_S)
    wanted = PARTITIONS * LARGE_EVENTS
    distinct = number.format("uniqExact(chain_id, seq)")
    seconds = wait_until(lambda: field.number(distinct) >= wanted, CAUGHT_UP_S, "all are visible")
    assert (field.number(number.format("count()")), field.number(distinct)) == (wanted, wanted)
    return f"{did}; its {wanted} events each once, {seconds:.0f} s after the rest"


def out_of_descriptors(field: Field, rng: random.Random) -> str:
    """A worker says that it waits, and why."""
    victim = rng.choice(field.workers)
    log = said(field.worker_log(victim.name))
    # One that has just been started has nothing to do yet.
    wait_until(lambda: field.works(victim.name), CAUGHT_UP_S, "it has partitions")
    with no_more(field, victim) as how:
        told = ("wait: store cannot be reached", "Too many open files")
        seconds = wait_until(lambda: all(t in log() for t in told), TOLD_S, "it is told")
    return f"{how}, told after {seconds:.1f} s"


def full_spool(field: Field) -> str:
    """The service says why, and emits nothing until there is room; then all is on disk."""
    service, log = field.services[0], said(field.folder / "processes.log")

    def counts() -> tuple[int, int]:
        runs = [r for r in ledger.runs(field.folder / "ledger") if r.service == service.name]
        return sum(r.promised for r in runs), sum(r.emitted for r in runs)

    how = field.spool_disk.fill([service.pid])
    try:
        spool = re.escape(str(field.spool_disk.folder))
        refused = re.compile(rf"spool {spool}\S*: (No space left on device|File too large)")
        wait_until(lambda: refused.search(log()) is not None, TOLD_S, "it is told")
        # What was under way when the disk was full may still end well.
        held, end = counts(), time.monotonic() + TOLD_S
        time.sleep(STILL_S)
        while held != (now := counts()):
            assert time.monotonic() < end, f"it goes on: {now} promised and emitted after {held}"
            held = now
            time.sleep(STILL_S)
    finally:
        field.spool_disk.relieve()
    promised, emitted = held
    assert promised < emitted
    wait_until(lambda: counts()[0] >= emitted, CAUGHT_UP_S, "what waited is on disk")
    return f"{how}: told, and held until there was room"
