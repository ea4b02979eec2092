"""Forged references in rings: found where one is, and the search ends."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.contract import world
from tests.processors.pipeline.linker import Bench, FakeLinkStore, batch_of, first_event, stored
from tests.processors.pipeline.scenes import SECOND

from sealtrail import ids
from sealtrail.errors import UnavailableError
from sealtrail.event import ParentRef
from sealtrail.findings import Code
from sealtrail_processor.linking.cycles import find_cycle


class TestCycles:
    def ring(self, size: int) -> FakeLinkStore:
        names = [ids.event_id(world.digest("ring"), n) for n in range(size)]
        return FakeLinkStore(edges={name: [names[(n + 1) % size]] for n, name in enumerate(names)})

    @pytest.mark.parametrize("size", [1, 2, 3, 100])
    def test_found_whatever_its_size(self, size: int) -> None:
        store = self.ring(size)
        first = next(iter(store.edges))
        path = find_cycle(store, "default", first, store.edges[first][0])
        assert len(path) == size + 1
        assert path[0] == path[-1] == first
        assert all(b in store.edges[a] for a, b in pairwise(path))

    def test_the_search_ends_in_a_ring_that_it_does_not_belong_to(self) -> None:
        store = self.ring(5)
        entry = next(iter(store.edges))
        outside = ids.event_id(world.digest("outside"), 0)
        assert find_cycle(store, "default", outside, entry) == []

    def test_bounds_end_it_too(self) -> None:
        store = self.ring(50)
        first = next(iter(store.edges))
        assert find_cycle(store, "default", first, store.edges[first][0], nodes=10) == []
        assert find_cycle(store, "default", first, store.edges[first][0], seconds=0) == []

    def test_a_mismatch_that_closes_a_ring_is_reported(self) -> None:
        bench = Bench()
        child_id, parent = self.mismatch(bench)
        bench.store.edges = {child_id: [parent], parent: [child_id]}
        bench.turn()
        assert bench.codes() == [Code.LINK_MISMATCH, Code.CYCLE]

    def test_a_ring_that_another_reference_closes_later_is_reported_once(self) -> None:
        bench = Bench()
        child_id, parent = self.mismatch(bench)
        bench.store.edges = {child_id: [parent]}
        bench.turn()
        bench.later(3)
        assert bench.codes() == [Code.LINK_MISMATCH]
        # Of another partition, or sent on purpose when nobody looks any more.
        bench.store.edges[parent] = [child_id]
        for _ in range(3):
            bench.later(300)
        assert bench.codes() == [Code.LINK_MISMATCH, Code.CYCLE]

    def test_it_is_looked_for_until_the_window_has_passed(self) -> None:
        bench = Bench()
        child_id, parent = self.mismatch(bench)
        bench.store.edges = {child_id: [parent]}
        bench.turn()
        for _ in range(30):
            bench.later(60)
        assert bench.linker._rings._waiting == []
        bench.store.edges[parent] = [child_id]
        bench.later(600)
        assert bench.codes() == [Code.LINK_MISMATCH]

    def test_a_store_that_is_away_loses_no_search(self) -> None:
        bench = Bench()
        child_id, parent = self.mismatch(bench)
        bench.turn()
        bench.store.edges = {child_id: [parent], parent: [child_id]}
        bench.now += 3 * SECOND
        bench.store.away = True
        with pytest.raises(UnavailableError):
            bench.turn()
        bench.store.away = False
        bench.turn()
        assert bench.codes() == [Code.LINK_MISMATCH, Code.CYCLE]

    def mismatch(self, bench: Bench) -> tuple[bytes, bytes]:
        """Commit a child that names a stored parent with another hash; ids of both."""
        one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
        parent = first_event(one)
        forged = ParentRef(parent.event_id, parent.occurred_at, world.digest("forged"))
        bench.store.stored[parent.event_id] = [stored(parent)]
        bench.commit(batch_of(two, (forged,)))
        return ids.event_id(two.chain_id, 0), parent.event_id
