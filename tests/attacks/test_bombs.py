"""Rows of the catalogue about size: batches that inflate, very wide and very deep graphs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from confluent_kafka import Producer
from tests.crash.harness import Pipeline
from tests.faults.line import SETTINGS, Line
from tests.scenarios import conservation
from tests.scenarios.chains import TOPIC, event

from sealtrail import ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sealtrail.event import ParentRef

    Say = Callable[[str], None]

# CHILDREN=1000000 is the size of the catalogue's draft: minutes on two cores (docs/adr/0050).
CHILDREN = int(os.environ.get("CHILDREN") or 100_000)
DEPTH, AT_ONCE = 100_000, 1_000
# Events of some 150 bytes, and two messages wait at most: the embedded broker has room for them.
SIBLINGS = 5_000
# What a worker may take beyond what it had.
MEMORY = 700 << 20
# Snappy makes a twentieth of it at best, and the embedded broker drops what is above 5 MB.
BOMBS = {"gzip": 400 << 20, "snappy": 90 << 20, "lz4": 400 << 20, "zstd": 400 << 20}


@pytest.fixture(scope="module")
def shared() -> Iterator[Line]:
    with Pipeline(SETTINGS) as pipeline:
        yield Line(pipeline)


@pytest.fixture
def line(shared: Line) -> Iterator[Line]:
    yield shared
    if shared.worker is not None:
        shared.kill()


class Watch:
    """The most memory that a process was seen to hold, bytes."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.base = self.most = self._process.memory_info().rss

    def look(self) -> None:
        """Take a look."""
        self.most = max(self.most, self._process.memory_info().rss)

    @property
    def grown(self) -> int:
        """Since the beginning."""
        return self.most - self.base


def paced(line: Line, watch: Watch, waiting: int = 10 * AT_ONCE) -> None:
    """The embedded broker drops what nobody read beyond 5 MB of a partition."""
    while line.sent - line.pipeline.committed() > waiting:
        watch.look()
        time.sleep(0.1)


def drain(line: Line, watch: Watch, timeout_s: float = 600) -> float:
    """Wait until all is visible, watching; seconds."""
    began = time.monotonic()
    while line.pipeline.committed() < line.sent:
        assert time.monotonic() - began < timeout_s, line.pipeline.committed()
        watch.look()
        time.sleep(0.2)
    return time.monotonic() - began


@pytest.mark.row("D4")
def test_d4_very_many_children(line: Line, happened: Say) -> None:
    worker = line.start()
    warm(line)
    watch = Watch(worker.pid)
    chain = line.chain()
    parent = chain.make(1)
    line.publish(parent.value)
    cause = parent.reference()
    began = time.monotonic()
    for first in range(0, CHILDREN, SIBLINGS):
        events = [child(cause) for _ in range(min(SIBLINGS, CHILDREN - first))]
        line.sent += len(events)
        paced(line, watch, 2 * SIBLINGS)
        line.publish(chain.make(events).value)
    line.sent += 1
    drain(line, watch)
    wanted = "FROM provenance.links WHERE verdict = 'VERIFIED' AND parent_id = "
    name = f"'{ids.text(parent.event_id())}'"
    line.wait(lambda: line.number(f"SELECT count() {wanted}{name}") == CHILDREN)
    took = time.monotonic() - began
    watch.look()
    seconds = lineage(line, parent.event_id(), CHILDREN + 1, "--down", "--depth", "3")
    line.stop()
    assert watch.grown < MEMORY
    happened(
        f"{CHILDREN} children, verified in {took:.0f} s: worker grew by {watch.grown >> 20} MB, "
        f"lineage in {seconds:.1f} s; {line.law()}"
    )


def child(cause: ParentRef) -> bytes:
    """An event of little more than its parent."""
    return event([cause], inputs=(), outputs=(), attributes={})


@pytest.mark.row("D4")
def test_d4_very_deep(line: Line, happened: Say) -> None:
    worker = line.start()
    warm(line)
    watch = Watch(worker.pid)
    chain = line.chain(1)
    cause, number = None, 0
    for _ in range(DEPTH // AT_ONCE):
        events: list[bytes] = []
        for _ in range(AT_ONCE):
            made = event([cause] if cause else [])
            cause = reference(chain.chain_id, number, made)
            events.append(made)
            number += 1
        line.sent += AT_ONCE
        paced(line, watch)
        line.publish(chain.make(events).value, 1)
    drain(line, watch)
    last = ids.event_id(chain.chain_id, DEPTH - 1)
    mine = f"FROM provenance.links WHERE child_chain = '{chain.chain_id.hex()}'"
    verified = f"SELECT count() {mine} AND verdict = 'VERIFIED'"
    line.wait(lambda: line.number(verified) == DEPTH - 1)
    seconds = lineage(line, last, DEPTH, "--up", "--depth", "10000", "--max-events", "20000")
    line.stop()
    assert watch.grown < MEMORY
    happened(
        f"{DEPTH} deep: worker grew by {watch.grown >> 20} MB, lineage in {seconds:.1f} s; "
        f"{line.law()}"
    )


def warm(line: Line) -> None:
    """Imports and the first assignment are not what is measured."""
    line.send(50)
    line.drained()


def reference(chain_id: bytes, number: int, made: bytes) -> Any:
    """How a child names an event."""
    from sealtrail.causal import causal_prefix
    from sealtrail.event import ParentRef
    from sealtrail.merkle import leaf_hash

    return ParentRef(ids.event_id(chain_id, number), causal_prefix(made)[0], leaf_hash(made))


def lineage(line: Line, event_id: bytes, events: int, *options: str) -> float:
    """Seconds that `sealtrail lineage` takes; it shows so many events, or says that it does not."""
    began = time.monotonic()
    done = line.pipeline.call("lineage", ids.text(event_id), *options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    seconds = time.monotonic() - began
    assert seconds < 90
    assert ("note: " in done.stdout) or done.stdout.count(" by ") == events, done.stdout[-500:]
    return seconds


@pytest.mark.row("C11")
@pytest.mark.parametrize("codec", BOMBS)
def test_c11_a_batch_that_inflates(line: Line, codec: str, happened: Say) -> None:
    worker = line.start()
    warm(line)
    watch = Watch(worker.pid)
    settings = conservation.variables(line.pipeline.folder)
    producer = Producer(
        {
            "bootstrap.servers": settings["SEALTRAIL_KAFKA_BOOTSTRAP"],
            "compression.type": codec,
            "message.max.bytes": 1_000_000_000,
        }
    )
    query = "SELECT count() FROM quarantine FINAL WHERE code = 'MALFORMED'"
    before = line.number(query)
    producer.produce(TOPIC, bytes(BOMBS[codec]), partition=2)
    producer.produce(TOPIC, b"no batch either", partition=2)
    assert producer.flush(120) == 0
    began = time.monotonic()
    while line.number(query) < before + 2:
        assert time.monotonic() - began < 300
        assert worker.poll() is None
        watch.look()
        time.sleep(0.1)
    line.send(300)
    line.drained()
    line.stop()
    assert watch.grown < MEMORY
    happened(
        f"{codec}: {BOMBS[codec] >> 20} MB quarantined after {time.monotonic() - began:.0f} s, "
        f"worker grew by {watch.grown >> 20} MB; {line.law()}"
    )
