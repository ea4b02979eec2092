"""Open links that a linker reads from its store: all of them, together, some at a time."""

from __future__ import annotations

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
from sealtrail_processor.linking.link_store import BLOCK, BLOCKS, Block, Part
from sealtrail_processor.linking.unread import Unread
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail.findings import Verdict

LOG = replace(Scene().log, partition=0)
CHAINS = sorted(world.digest(str(n)) for n in range(250))


class Asked(FakeLinkStore):
    """Takes down its questions; fails as often as it is told."""

    parts: list[Part]
    failures: int = 0

    def open_blocks(
        self, part: Part, after: Block | None = None, limit: int = 10_000
    ) -> list[Block]:
        self._fail()
        self.parts.append(part)
        return super().open_blocks(part, after, limit)

    def unsettled(
        self, part: Part, blocks: Sequence[Block], limit: int
    ) -> list[tuple[Edge, Verdict | None]]:
        self._fail()
        assert 0 < len(blocks) <= BLOCKS
        return super().unsettled(part, blocks, limit)

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
    store.parts = []
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
    since = world.NOW - 86_400_000_000
    assert store.parts == [Part(LOG.topic, [0, 1, 2], since), Part("others", [0], since)]


def test_what_is_open_is_read_some_blocks_at_a_time() -> None:
    edges = [edge(chain, seq) for chain in CHAINS for seq in (3, BLOCK)]
    store, waiting = reader(*edges)
    waiting.add(LOG)
    assert len(waiting.read()) == BLOCKS
    assert set(drained(waiting)) | set(edges) == set(edges)
    assert store.open == []
    assert len(store.parts) == 1


def test_what_is_added_while_it_is_read_is_read_again() -> None:
    edges = [edge(chain, 0) for chain in CHAINS]
    store, waiting = reader(*edges)
    waiting.add(LOG)
    waiting.read()
    late = edge(CHAINS[0], 1)
    store.open.append(late)
    waiting.add(LOG)
    assert late in drained(waiting)
    assert len(store.parts) == 2


@given(st.integers(1, 40), st.sets(st.integers(0, 249), min_size=1), st.integers(0, 3))
def test_nothing_is_lost_by_bounds_or_a_store_that_is_away(
    named: int, chains: set[int], failures: int
) -> None:
    edges = [edge(CHAINS[n], seq) for n in chains for seq in range(3)]
    store, waiting = reader(*edges, most=100)
    store.failures = failures
    waiting.add(LOG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unread, "NAMED", named)
        for _ in range(failures):
            with pytest.raises(UnavailableError):
                waiting.read()
        found = drained(waiting)
    assert sorted(found) == sorted(edges)
