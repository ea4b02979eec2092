"""Parents: what is known of each reference, from memory, from the store, and after the window."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract import world
from tests.processors.pipeline.scenes import SECOND, Scene

from sealtrail import ids, merkle
from sealtrail.errors import UnavailableError
from sealtrail.event import ParentRef
from sealtrail.findings import Code, Verdict
from sealtrail_processor.linking import suspects
from sealtrail_processor.linking.cycles import find_cycle
from sealtrail_processor.linking.edges import Edge, Stored, compare, of_batch
from sealtrail_processor.linking.heads import Head, Heads, pack, tenant_tag
from sealtrail_processor.linking.link_store import LinkStore
from sealtrail_processor.linking.links import Linker
from sealtrail_processor.memory import MemoryHeads, MemoryPublisher
from sealtrail_processor.reporting.metrics import Metrics
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sealtrail_processor.judging.model import Finding, Log


@dataclass
class FakeLinkStore(LinkStore):
    """Answers of a store, in memory."""

    stored: dict[bytes, list[Stored]] = field(default_factory=dict)
    edges: dict[bytes, list[bytes]] = field(default_factory=dict)
    open: list[Edge] = field(default_factory=list)
    verdicts: dict[tuple[bytes, int, int], str] = field(default_factory=dict)
    chains: dict[int, tuple[int, int, bool, int]] = field(default_factory=dict)
    # Chains that were found AHEAD.
    skew: set[bytes] = field(default_factory=set)
    asked: int = 0
    away: bool = False

    def events(self, event_ids: Collection[bytes]) -> dict[bytes, list[Stored]]:
        self.asked += 1
        if self.away:
            raise UnavailableError("away")
        return {i: self.stored[i] for i in event_ids if i in self.stored}

    def parents(self, tenant: str, event_ids: Collection[bytes]) -> list[tuple[bytes, bytes]]:
        if self.away:
            raise UnavailableError("away")
        return [(i, p) for i in event_ids for p in self.edges.get(i, ())]

    def silent_since(self, prefix: int, tenant: str) -> tuple[int, int, bool, int] | None:
        return self.chains.get(prefix)

    def ahead(self, prefixes: Collection[int]) -> dict[int, bytes]:
        found = {ids.chain_prefix(chain): chain for chain in self.skew}
        return {prefix: found[prefix] for prefix in prefixes if prefix in found}

    def unsettled(
        self, topic: str, partition: int, since: int, limit: int
    ) -> list[tuple[Edge, Verdict | None]]:
        found, self.open = self.open[:limit], self.open[limit:]
        orphans = {key for key, verdict in self.verdicts.items() if verdict == Verdict.ORPHAN}
        return [
            (
                edge,
                Verdict.ORPHAN
                if (edge.child_chain, edge.child_seq, edge.ordinal) in orphans
                else None,
            )
            for edge in found
        ]

    def write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        for chain, seq, _, ordinal, _, verdict, _, _ in rows:
            self.verdicts[chain, seq, ordinal] = verdict


@dataclass
class FakeReports:
    found: list[Finding] = field(default_factory=list)

    def write(self, log: Log, found: Any, origin: str, **_: Any) -> None:
        self.found += [finding for _, finding, _ in found]


class Bench:
    """A linker by hand: no thread, no store, a clock that stands until it is moved."""

    def __init__(self, **settings: Any) -> None:
        self.store = FakeLinkStore()
        self.reports = FakeReports()
        self.now = world.NOW + SECOND
        # Up to when all is committed; None: all that there is.
        self.horizon: int | None = None
        self.scene = Scene()
        self.topic = MemoryHeads()
        self.linker = Linker(
            self.store,
            self.reports,  # type: ignore[arg-type] # what the linker uses of it
            Metrics(),
            WorkerSettings(**settings),
            self.chain_of,
            Heads(self.topic, MemoryPublisher(), "provenance.heads", 1000),
            lambda: self.now,
            lambda: self.now if self.horizon is None else self.horizon,
        )
        self.partition: Any = None

    def chain_of(self, prefix: int) -> Any:
        return self.partition.chains.by_prefix(prefix) if self.partition else None

    def commit(self, *values: bytes) -> None:
        self.scene.append(*values)
        before = len(self.scene.told)
        self.partition = self.scene.run(self.partition)
        for flush in self.scene.told[before:]:
            self.linker.committed(flush)

    def turn(self) -> None:
        self.linker.turn(0.001)

    def later(self, seconds: float) -> None:
        """Time passes: everything that waits is due."""
        self.now += round(seconds * SECOND)
        self.linker._heap = [(0.0, n, w) for _, n, w in self.linker._heap]
        self.turn()

    def codes(self) -> list[Code]:
        return [f.code for f in self.reports.found]


def batch_of(producer: world.Producer, *parents: tuple[ParentRef, ...]) -> bytes:
    events = [world.event(producer.next_seq + i, parents=p).encode() for i, p in enumerate(parents)]
    statement = producer.statement(events)
    value = world.framed(producer.envelope(statement, events))
    producer.advance(statement)
    return value


def first_event(producer: world.Producer) -> ParentRef:
    """How the first event of `send` is named."""
    made = world.event(0)
    return ParentRef(
        ids.event_id(producer.chain_id, 0), made.occurred_at, merkle.leaf_hash(made.encode())
    )


def stored(ref: ParentRef, tenant: str = "default") -> Stored:
    return Stored(tenant, ref.leaf_hash, ref.occurred_at)


def test_parents_of_the_same_worker_are_verified_in_memory() -> None:
    bench = Bench()
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    bench.commit(one.send(), batch_of(two, (first_event(one),)))
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}
    assert bench.store.asked == 0


def test_a_child_that_comes_first_waits_for_its_parent() -> None:
    bench = Bench()
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.commit(batch_of(two, (parent,)))
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "PENDING"}
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.later(1)
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}
    assert bench.codes() == []


def test_position_when_the_chain_is_past_it_but_its_row_is_not_seen() -> None:
    bench = Bench(links_recent_events=0)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    bench.commit(one.send(), batch_of(two, (first_event(one),)))
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "POSITION"}


def told(parent: ParentRef, next_seq: int, tenant: str = "default") -> bytes:
    """What another worker says of the parent's chain."""
    prefix, _ = ids.parse(parent.event_id)
    return pack(3, 17, [Head(prefix, next_seq, tenant_tag(tenant))])


def test_a_parent_that_another_worker_commits_is_asked_for_at_once() -> None:
    bench = Bench()
    two = world.Producer(nonce=world.digest("two"))
    parent = first_event(world.Producer())
    bench.commit(batch_of(two, (parent,)))
    bench.turn()
    bench.turn()
    assert bench.store.asked == 1  # the next time is after a pause
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.topic.unread = [told(parent, 0)]
    bench.turn()
    assert bench.store.asked == 1  # not so far yet
    bench.topic.unread = [told(parent, 1)]
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}
    assert bench.linker._open == 0
    assert bench.linker._by_chain == {}


@pytest.mark.parametrize(
    ("next_seq", "tenant", "verdict"),
    [(1, "default", "POSITION"), (0, "default", "PENDING"), (1, "other", "PENDING")],
)
def test_position_by_the_word_of_another_worker(next_seq: int, tenant: str, verdict: str) -> None:
    bench = Bench()
    two = world.Producer(nonce=world.digest("two"))
    parent = first_event(world.Producer())
    bench.topic.unread = [told(parent, next_seq, tenant)]
    bench.turn()
    bench.commit(batch_of(two, (parent,)))
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): verdict}


def test_whoever_writes_to_the_topic_cannot_have_the_store_asked_without_end() -> None:
    bench = Bench()
    parent = first_event(world.Producer())
    bench.commit(batch_of(world.Producer(nonce=world.digest("two")), (parent,)))
    bench.turn()
    for number in range(1, 50):
        bench.topic.unread = [told(parent, number)]
        bench.turn()
    assert bench.store.asked == 2


@pytest.mark.parametrize("wrong", ["leaf", "time"])
def test_another_hash_or_time_is_a_mismatch(wrong: str) -> None:
    bench = Bench()
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.store.stored[parent.event_id] = [stored(parent)]
    leaf = world.digest("wrong") if wrong == "leaf" else parent.leaf_hash
    time = parent.occurred_at + (wrong == "time")
    bench.commit(one.send(), batch_of(two, (ParentRef(parent.event_id, time, leaf),)))
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "MISMATCH"}
    assert bench.codes() == [Code.LINK_MISMATCH]


def test_orphan_after_the_window_and_still_found_later() -> None:
    bench = Bench(orphan_window_s=600)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.commit(batch_of(two, (parent,)))
    bench.turn()
    bench.later(500)
    assert bench.codes() == []
    bench.later(101)
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "ORPHAN"}
    assert bench.codes() == [Code.ORPHAN]
    bench.later(600)
    assert bench.codes() == [Code.ORPHAN]
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.later(600)
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}


def test_no_orphan_while_the_log_is_behind() -> None:
    bench = Bench(orphan_window_s=600)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    bench.commit(batch_of(two, (first_event(one),)))
    bench.horizon = world.NOW + SECOND
    bench.later(3_600)
    assert bench.codes() == []
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "PENDING"}
    # All that came within the window is committed, and the parent was not in it.
    bench.horizon += 601 * SECOND
    bench.later(1)
    assert bench.codes() == [Code.ORPHAN]


@pytest.mark.parametrize(
    ("next_seq", "closed", "verdict"),
    [(0, False, "LOST_WITH_PRODUCER"), (0, True, "ORPHAN"), (5, False, "ORPHAN")],
)
def test_lost_with_its_producer(next_seq: int, closed: bool, verdict: str) -> None:
    bench = Bench(orphan_window_s=600)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    chain = (bench.now, next_seq, closed, 60)
    bench.store.chains[ids.chain_prefix(one.chain_id)] = chain
    bench.commit(batch_of(two, (parent,)))
    bench.later(601)
    assert bench.store.verdicts == {(two.chain_id, 0, 0): verdict}


def edge(parent: ParentRef, tenant: str = "default") -> Edge:
    log = Scene().log
    child = (bytes(32), 0, 0, ids.event_id(bytes(32), 0))
    who = (parent.event_id, parent.occurred_at, parent.leaf_hash)
    return Edge(log, 0, world.NOW, tenant, *child, 0, *who)


def test_of_other_tenants_nothing_is_told_but_to_those_who_know() -> None:
    parent = first_event(world.Producer())
    foreign = stored(parent, "other")
    assert compare(edge(parent), [foreign]) is Verdict.EXTERNAL
    guess = ParentRef(parent.event_id, parent.occurred_at, world.digest("a guess"))
    assert compare(edge(guess), [foreign]) is None
    assert compare(edge(parent), []) is None


def test_any_branch_of_a_fork_may_be_meant() -> None:
    parent = first_event(world.Producer())
    twin = Stored("default", world.digest("twin"), parent.occurred_at)
    assert compare(edge(parent), [twin, stored(parent)]) is Verdict.VERIFIED
    assert compare(edge(parent), [twin]) is Verdict.MISMATCH


def test_a_store_that_is_away_loses_nothing() -> None:
    bench = Bench()
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.store.away = True
    bench.commit(batch_of(two, (parent,)))
    with pytest.raises(UnavailableError):
        bench.turn()
    bench.store.away = False
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.later(1)
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}


def test_what_waits_is_bounded_and_read_again_from_the_store() -> None:
    bench = Bench(links_pending_max=100)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.commit(batch_of(two, *((parent,) for _ in range(150))))
    bench.turn()
    assert len(bench.linker._heap) <= 100
    missed = [
        e for e in _all_edges(bench) if (e.child_chain, e.child_seq, 0) not in bench.store.verdicts
    ]
    assert missed
    bench.store.open = missed
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.later(1)
    bench.later(1)
    assert set(bench.store.verdicts.values()) == {"VERIFIED"}
    assert len(bench.store.verdicts) == 150


def _all_edges(bench: Bench) -> list[Edge]:
    return [e for f in bench.scene.told for j in f.judged for e in of_batch(f.log, j)]


def test_a_restarted_linker_takes_up_what_has_no_verdict() -> None:
    bench = Bench()
    parent = first_event(world.Producer())
    bench.store.open = [edge(parent)]
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.linker.rebuild(bench.scene.log)
    bench.turn()
    bench.later(1)
    assert bench.store.verdicts == {(bytes(32), 0, 0): "VERIFIED"}


def test_a_restarted_linker_waits_for_the_parent_of_an_orphan_and_says_nothing_again() -> None:
    bench = Bench(orphan_window_s=600)
    parent = first_event(world.Producer())
    bench.store.open = [edge(parent)]
    bench.store.verdicts = {(bytes(32), 0, 0): "ORPHAN"}
    bench.now += 700 * SECOND
    bench.linker.rebuild(bench.scene.log)
    bench.turn()
    bench.later(600)
    assert bench.codes() == []
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.later(600)
    assert bench.store.verdicts == {(bytes(32), 0, 0): "VERIFIED"}
    assert bench.codes() == []


def test_memory_forgets_old_batches_and_asks_the_store_then() -> None:
    bench = Bench(links_recent_events=3)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.commit(one.send(3), one.send(3), batch_of(two, (parent,)))
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}
    assert bench.store.asked == 1


class TestCycles:
    """Forged references in rings: found where one is, and the search ends."""

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


class TestSuspects:
    """CAUSALITY of live events gets the chain that is AHEAD as its suspect."""

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


class Inserts:
    """A store that takes down the tokens of inserts."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def insert(self, table: str, columns: Any, rows: Any, token: str) -> None:
        del table, columns, rows
        self.tokens.append(token)


def test_verdicts_have_a_token_of_their_content() -> None:
    inserts = Inserts()
    store = LinkStore(inserts)  # type: ignore[arg-type] # what is asked of it here
    row = (world.digest("child"), 2**39, 2**32 - 1, 63, bytes(16), "PENDING", 2**62, 2**62)
    others: list[Any] = [
        (world.digest("other"), *row[1:]),
        (row[0], 2**39 + 1, *row[2:]),
        (*row[:2], 0, *row[3:]),
        (*row[:3], 62, *row[4:]),
        (*row[:4], b"\1" * 16, *row[5:]),
        *((*row[:5], verdict.value, *row[6:]) for verdict in Verdict if verdict != "PENDING"),
        (*row[:6], 2**62 + 1, row[7]),
        (*row[:7], 2**62 + 1),
    ]
    for rows in ([row], [row], *([other] for other in others), [row, row]):
        store.write(rows)
    first, again, *different = inserts.tokens
    assert first == again
    assert len({first, *different}) == 2 + len(others)
