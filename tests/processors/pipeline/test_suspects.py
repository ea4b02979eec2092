"""CAUSALITY of live events gets the chain that is AHEAD as its suspect."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.contract import world
from tests.processors.pipeline.linker import Bench
from tests.processors.pipeline.scenes import SECOND

from sealtrail import ids
from sealtrail.event import ParentRef
from sealtrail.findings import Code
from sealtrail_processor.linking import suspects

if TYPE_CHECKING:
    import pytest


class TestSuspects:
    def causality(self, bench: Bench, *, backfill: bool) -> world.Producer:
        two = world.Producer(nonce=world.digest("two"))
        ahead = ParentRef(
            ids.event_id(world.digest("ahead"), 0), world.NOW + 90 * SECOND, bytes(32)
        )
        events = [world.event(parents=(ahead,), backfill=backfill).encode()]
        statement = two.statement(events)
        bench.commit(world.framed(two.envelope(statement, events)))
        assert bench.scene.codes() == ["CAUSALITY"]
        return two

    def test_of_another_partition_by_the_store(self) -> None:
        bench = Bench()
        bench.store.skew = {world.digest("ahead"), world.digest("another")}
        self.causality(bench, backfill=False)
        bench.turn()
        [finding] = bench.reports.found
        assert finding.suspect == world.digest("ahead")
        # Whoever has a good key may have any number of chains found AHEAD: those alone are kept
        # that a finding waits for.
        assert [*bench.linker._suspects._skewed.values()] == [world.digest("ahead")]

    def test_once_it_is_known(self) -> None:
        bench = Bench()
        self.causality(bench, backfill=False)
        bench.turn()
        assert bench.reports.found == []
        bench.store.skew = {world.digest("ahead")}
        bench.later(5)
        assert [f.suspect for f in bench.reports.found] == [world.digest("ahead")]

    def test_chains_that_may_be_one_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(suspects, "PENDING", 2)
        bench = Bench()
        chains = [world.digest(f"chain {n}") for n in range(5)]
        ahead = [SimpleNamespace(code=Code.AHEAD, chain_id=chain) for chain in chains]
        flush: Any = SimpleNamespace(judged=[SimpleNamespace(findings=ahead)])
        bench.linker._suspects.take(flush)
        assert [*bench.linker._suspects._skewed.values()] == chains[-2:]

    def test_history_has_no_suspect(self) -> None:
        bench = Bench()
        bench.store.skew = {world.digest("ahead")}
        self.causality(bench, backfill=True)
        bench.turn()
        assert bench.reports.found == []
