"""Open links that a linker reads from its store: all of them, together, some at a time."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract import world
from tests.processors.pipeline.linker import FakeLinkStore
from tests.processors.pipeline.scenes import Scene

from sealtrail import ids
from sealtrail.errors import UnavailableError
from sealtrail_processor.linking import unread
from sealtrail_processor.linking.edges import Edge
from sealtrail_processor.linking.link_store import BLOCK, SPANS, Block, Part, Span
from sealtrail_processor.linking.unread import GAP, READ, Unread
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail.findings import Verdict

LOG = replace(Scene().log, partition=0)
DAY = 86_400_000_000
CHAINS = sorted(world.digest(str(n)) for n in range(250))


class Asked(FakeLinkStore):
    """Takes down its questions; fails as often as it is told."""

    parts: list[Part]
    spans: list[Sequence[Span]]
    failures: int = 0

    def open_blocks(self, part: Part, after: Block | None, limit: int) -> list[Block]:
        self._fail()
        self.parts.append(part)
        return super().open_blocks(part, after, limit)

    def unsettled(
        self, part: Part, spans: Sequence[Span], limit: int
    ) -> list[tuple[Edge, Verdict | None]]:
        self._fail()
        assert 0 < len(spans) <= SPANS
        self.spans.append(spans)
        return super().unsettled(part, spans, limit)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("away")


def edge(chain: bytes, seq: int, partition: int = 0) -> Edge:
    log = replace(LOG, partition=partition)
    child = (chain, seq, 0, ids.event_id(chain, seq))
    return Edge(log, 0, world.NOW, "default", *child, 0, bytes(16), 0, bytes(32))


def reader(*edges: Edge, most: int = 100_000) -> tuple[Asked, Unread]:
    store = Asked(open=list(edges))
    store.parts, store.spans = [], []
    settings = WorkerSettings(links_pending_max=most)
    return store, Unread(store, settings, lambda: world.NOW)


def drained(unread_: Unread) -> list[Edge]:
    found: list[Edge] = []
    for turn in count():
        if not unread_:
            return found
        assert turn < 1000
        found += [edge for edge, _ in unread_.read()]
    raise AssertionError


def test_partitions_of_a_topic_are_asked_for_in_one_question() -> None:
    store, waiting = reader()
    others = replace(LOG, topic="others")
    for log in (replace(LOG, partition=2), others, LOG, replace(LOG, partition=1), LOG):
        waiting.add(log)
    assert waiting
    assert drained(waiting) == []
    when = (world.NOW - DAY, world.NOW)
    assert store.parts == [Part(LOG.topic, [0, 1, 2], *when), Part("others", [0], *when)]


def test_what_was_dropped_is_read_from_its_arrival_on() -> None:
    store, waiting = reader()
    waiting.add(LOG, world.NOW - 5)
    waiting.add(replace(LOG, partition=1), world.NOW - 3)
    waiting.add(LOG, world.NOW - 4)
    drained(waiting)
    waiting.add(LOG, world.NOW - 2 * DAY)
    drained(waiting)
    waiting.add(LOG, world.NOW)
    waiting.add(LOG)
    drained(waiting)
    assert [part.since for part in store.parts] == [world.NOW - 5, *[world.NOW - DAY] * 2]


def test_no_more_is_read_than_half_of_what_may_wait() -> None:
    edges = [edge(chain, seq) for chain in CHAINS for seq in (3, BLOCK)]
    store, waiting = reader(*edges, most=200)
    waiting.add(LOG)
    assert len(waiting.read()) == 100
    assert len(drained(waiting)) == 400
    assert store.open == []
    assert len(store.parts) == 1


def test_neighbours_are_read_together_unless_much_lies_between() -> None:
    edges = [edge(chain, 0) for chain in CHAINS]
    store, waiting = reader(*edges)
    store.settled = {(CHAINS[n], 7): GAP - 1 if n % 2 else GAP for n in range(250)}
    waiting.add(LOG)
    found = len(waiting.read())
    first, *pairs, last = store.spans[0]
    assert first == (Block(CHAINS[0], 0, 1, 0),) * 2
    assert all(b.before - a.before == GAP for a, b in pairs)
    # So many references are looked through in one question: the last waits for its neighbour.
    assert last[0] == last[1]
    assert READ - 2 * GAP < len(pairs) * GAP <= READ
    assert found == 2 + 2 * len(pairs)
    assert len(drained(waiting)) == 250 - found


def test_so_many_ranges_are_named_at_a_time() -> None:
    store, waiting = reader(*(edge(chain, 0) for chain in CHAINS))
    store.settled = {(chain, 7): GAP for chain in CHAINS}
    waiting.add(LOG)
    assert [len(waiting.read()) for _ in range(3)] == [SPANS, SPANS, 250 - 2 * SPANS]
    assert not waiting


def test_a_block_that_has_more_than_fits_is_read_in_part_and_once_more() -> None:
    edges = [edge(CHAINS[0], seq) for seq in range(BLOCK)]
    store, waiting = reader(*edges, edge(CHAINS[1], 0), most=100)
    waiting.add(LOG)
    assert len(waiting.read()) == 100
    assert len(drained(waiting)) == BLOCK + 1 - 100
    assert len(store.parts) > 1


def test_what_is_added_while_it_is_read_is_read_again() -> None:
    edges = [edge(chain, 0) for chain in CHAINS]
    store, waiting = reader(*edges, most=200)
    waiting.add(LOG)
    waiting.read()
    late = edge(CHAINS[0], 1)
    store.open.append(late)
    waiting.add(LOG)
    assert late in drained(waiting)
    assert len(store.parts) == 2


def test_threads_that_add_while_it_is_read_disturb_nothing() -> None:
    store, waiting = reader()
    stopped = threading.Event()

    def adds(partition: int) -> None:
        while not stopped.is_set():
            waiting.add(replace(LOG, partition=partition, topic=f"topic-{partition % 2}"))

    threads = [threading.Thread(target=adds, args=(n,)) for n in range(3)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        while len(store.parts) < 300:
            if waiting:
                waiting.read()
    finally:
        stopped.set()
        sys.setswitchinterval(before)
        for thread in threads:
            thread.join()
    drained(waiting)
    assert {n for part in store.parts for n in part.partitions} == {0, 1, 2}


@given(
    st.integers(1, 40),
    st.sets(st.integers(0, 249), min_size=1),
    st.integers(0, 3),
    st.integers(0, 2 * GAP),
)
def test_nothing_is_lost_by_bounds_or_a_store_that_is_away(
    named: int, chains: set[int], failures: int, settled: int
) -> None:
    edges = [edge(CHAINS[n], seq) for n in chains for seq in range(3)]
    store, waiting = reader(*edges, most=100)
    store.failures, store.settled = failures, {(chain, 0): settled for chain in CHAINS}
    waiting.add(LOG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unread, "NAMED", named)
        for _ in range(failures):
            with pytest.raises(UnavailableError):
                waiting.read()
        found = drained(waiting)
    assert sorted(found) == sorted(edges)
