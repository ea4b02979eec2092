"""Step 10: the chain's state machine (B3, B5, E21): any order, bounds, replays, restarts."""

from copy import deepcopy
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract import world as w
from tests.contract.links import CHAIN, FIVE, codes, feed, forged, honest

from sealtrail import chain
from sealtrail.chain import Bounds, Chains, Link, Placement
from sealtrail.findings import Code
from sealtrail.statement import ZERO, Continues


def test_in_order_nothing_is_found() -> None:
    chains = Chains()
    assert feed(chains, *FIVE) == [Placement(0)] * 5
    state = chains.by_id[CHAIN]
    assert (state.next_batch, state.next_seq, state.head) == (5, 9, FIVE[-1].statement_hash)
    assert (state.gaps(), state.beyond, state.closed) == ([], [], False)
    assert state.last_signed_at == FIVE[-1].signed_at
    assert chains.by_prefix(int.from_bytes(CHAIN, "big") >> 174) is state
    assert chains.by_prefix(0) is None


@pytest.mark.parametrize("order", list(permutations(range(5))))
def test_b5_any_order_ends_in_the_same_state(order: list[int]) -> None:
    expected, chains = Chains(), Chains()
    feed(expected, *FIVE)
    placements = feed(chains, *(FIVE[i] for i in order))
    assert all(p.branch == 0 for p in placements)
    assert chains.by_id[CHAIN] == expected.by_id[CHAIN]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.booleans(), st.data())
def test_any_arrival_with_duplicates_and_holes(
    counts: list[int], close: bool, data: st.DataObject
) -> None:
    links = honest(counts, close=close)
    numbers = data.draw(st.lists(st.integers(0, len(links) - 1), max_size=30))
    chains, seen = Chains(), set[int]()
    for number in numbers:
        placement = chains.place(links[number])
        assert placement.duplicate == (number in seen)
        assert Code.FORK not in [f.code for f in placement.findings]
        if not placement.duplicate:
            assert placement.branch == 0
            _check_continuity(placement, number, seen)
            chains.apply(links[number])
            seen.add(number)
    if not seen:
        return
    state = chains.by_id[links[0].chain_id]
    mark = next(i for i in range(len(links) + 1) if i not in seen)
    assert state.next_batch == mark
    assert state.next_seq == sum(counts[:mark])
    assert state.head == (links[mark - 1].statement_hash if mark else ZERO)
    assert state.closed == (close and mark == len(links))
    missing = {n for a, b in state.gaps() for n in range(a, b + 1)}
    assert missing == set(range(max(seen))) - seen
    assert [n for n in range(len(links)) if state.holds(n)] == sorted(seen)


def _check_continuity(placement: Placement, number: int, seen: set[int]) -> None:
    found = [(f.code, f.from_batch, f.to_batch) for f in placement.findings]
    last = max(seen, default=-1)
    if number < last:
        assert found == [(Code.GAP_FILLED, number, number)]
    elif number > last + 1:
        assert found == [(Code.GAP, last + 1, number - 1)]
    else:
        assert found == []


@st.composite
def adversarial(draw: st.DrawFn) -> list[Link]:
    """Honest links of two chains, with bent copies among them, in any order."""
    links = honest([1, 2, 1, 3], close=draw(st.booleans())) + honest([1, 1], nonce=w.digest("n2"))
    pool = list(links)
    for number in range(draw(st.integers(0, 8))):
        base = draw(st.sampled_from(pool))
        other = draw(st.sampled_from(pool))
        pool.append(
            replace(
                base,
                statement_hash=w.digest(f"bent {number}"),
                batch_seq=base.batch_seq + draw(st.integers(0, 2)),
                first_seq=max(0, base.first_seq + draw(st.integers(-1, 3))),
                previous=other.statement_hash if draw(st.booleans()) else base.previous,
                closes=draw(st.booleans()),
                identity=draw(st.sampled_from([w.IDENTITY, replace(w.IDENTITY, producer="x")])),
            )
        )
    return draw(st.lists(st.sampled_from(pool), max_size=25))


@given(adversarial())
def test_state_can_be_rebuilt_and_names_are_unique(links: list[Link]) -> None:
    chains, applied = Chains(), list[Link]()
    for link in links:
        before = dict(chains.by_id)
        placement = chains.place(link)
        assert chains.by_id == before
        if placement.branch is not None:
            applied.append(replace(link, branch=placement.branch))
            chains.apply(applied[-1])
    rebuilt = Chains()
    for link in applied:
        rebuilt.apply(link)
    assert rebuilt.by_id == chains.by_id
    assert vars(rebuilt) == vars(chains)
    # What stores key on: two events never share (chain, sequence number, branch).
    names = [(x.chain_id, s, x.branch) for x in applied for s in range(x.first_seq, x.next_seq)]
    assert len(names) == len(set(names))
    # A replay of all changes nothing, however often.
    for link in applied:
        assert chains.place(link).duplicate


@given(adversarial(), st.builds(Bounds, st.integers(1, 3), st.integers(1, 3)))
def test_a_chain_costs_no_more_than_its_bounds_and_is_judged_alike_after_any_restart(
    links: list[Link], bounds: Bounds
) -> None:
    chains, applied = Chains(), list[Link]()
    for link in links:
        rebuilt = Chains()
        for earlier in applied:
            rebuilt.apply(earlier)
        placement = chains.place(link, bounds=bounds)
        assert rebuilt.place(link, bounds=bounds) == placement
        free = chains.place(link)
        if placement.refused is None:
            assert placement == free
        elif placement.refused.code is not Code.ID_COLLISION:
            assert free.branch is not None
            assert placement.refused.code in {Code.GAP, Code.FORK}
        if placement.branch is not None:
            applied.append(replace(link, branch=placement.branch))
            chains.apply(applied[-1])
    for state in chains.by_id.values():
        assert len(state.beyond) <= bounds.gaps
        # And the one that a genesis may open.
        assert state.branches <= bounds.branches + 1


def refusals(placements: list[Placement]) -> list[str]:
    return [p.refused.code if p.refused else "" for p in placements]


def test_a_chain_with_too_many_gaps_takes_what_fills_them_and_what_goes_on() -> None:
    chains, links, bounds = Chains(), honest([1] * 20), Bounds(gaps=2)
    feed(chains, links[0], links[5], links[10], bounds=bounds)
    # One more gap: behind, and in the middle of one; but not next to what is there.
    asked = [links[n] for n in (12, 7, 2, 11, 6, 9, 4, 1)]
    placed = feed(chains, *asked, bounds=bounds)
    assert refusals(placed) == ["GAP", "GAP", "GAP", "", "", "", "", ""]
    assert placed[0].refused is not None
    assert placed[0].refused.detail == "batch 12 leaves another gap: 2 are open"
    assert chains.by_id[CHAIN].gaps() == [(2, 3), (7, 8)]
    feed(chains, *links[2:4], bounds=bounds)
    assert refusals(feed(chains, links[15], links[17], bounds=bounds)) == ["", "GAP"]


def test_a_chain_with_too_many_forks_goes_on_and_so_do_they() -> None:
    chains, bounds = Chains(), Bounds(branches=2)
    bent = [replace(FIVE[1], statement_hash=w.digest(name)) for name in "abc"]
    placed = feed(chains, *FIVE[:3], *bent, bounds=bounds)
    assert refusals(placed) == ["", "", "", "", "", "FORK"]
    assert placed[-1].refused is not None
    assert placed[-1].refused.detail.endswith("; 2 branches are there already")
    on = replace(FIVE[2], statement_hash=w.digest("on"), previous=bent[0].statement_hash)
    placed = feed(chains, *FIVE[3:], on, bent[1], bent[2], bounds=bounds)
    assert refusals(placed) == ["", "", "", "", "FORK"]
    assert [p.branch for p in placed] == [0, 0, 1, None, None]


def test_forks_do_not_keep_a_chain_from_its_owner() -> None:
    chains, bounds = Chains(), Bounds(branches=1)
    thief = replace(w.IDENTITY, producer="thief")
    # The second contradicts the first.
    early = [replace(FIVE[n], identity=thief, statement_hash=w.digest(f"early{n}")) for n in (1, 2)]
    assert refusals(feed(chains, *early, bounds=bounds)) == ["", ""]
    assert refusals(feed(chains, FIVE[3], bounds=bounds)) == ["FORK"]
    placed = feed(chains, *FIVE[:4], bounds=bounds)
    assert [(p.branch, p.refused) for p in placed] == [(2, None)] * 4
    assert chains.by_id[CHAIN].proven


@given(adversarial(), st.data())
def test_apply_can_be_undone(links: list[Link], data: st.DataObject) -> None:
    chains = Chains()
    feed(chains, *links)
    link = data.draw(st.sampled_from(honest([1, 2, 1, 3]) + honest([1], nonce=w.digest("n3"))))
    saved, before = chains.known(link.chain_id), deepcopy(vars(chains))
    feed(chains, link)
    chains.restore(link.chain_id, saved)
    assert vars(chains) == before


def test_undo_forgets_a_continuation() -> None:
    chains = Chains()
    feed(chains, *FIVE)
    earlier = chains.known(CHAIN)
    point = Continues(CHAIN, 4, FIVE[4].statement_hash)
    (link,) = honest([1], nonce=w.digest("next"), continues=point)
    nothing = chains.known(link.chain_id)
    feed(chains, link)
    assert chains.by_id[CHAIN].continued == point
    chains.restore(link.chain_id, nothing)
    chains.restore(CHAIN, earlier)
    (other,) = honest([1], nonce=w.digest("another"), continues=point)
    assert codes(feed(chains, other)) == [[]]


def test_b3_replays_are_duplicates_at_any_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sealtrail.chain_state.RECENT", 2)
    chains = Chains()
    feed(chains, *FIVE)
    state = chains.by_id[CHAIN]
    # What is not committed yet is not left to the store.
    assert not any(state.needs_lookup(n) for n in range(6))
    state.trim()
    assert not state.needs_lookup(4)
    assert state.needs_lookup(0)
    assert not state.needs_lookup(5)
    stored = {(CHAIN, 0): [(FIVE[0].statement_hash, 0)]}
    assert chains.place(FIVE[0], stored).duplicate
    assert chains.place(forged(FIVE[0]), stored).branch == 1


def test_rows_read_twice_rebuild_the_same_mark() -> None:
    chains, twice = Chains(), Chains()
    for link in FIVE:
        chains.apply(link)
        twice.apply(link)
        twice.apply(link)
    one, other = chains.by_id[CHAIN], twice.by_id[CHAIN]
    assert (one.next_batch, one.next_seq, one.head) == (
        other.next_batch,
        other.next_seq,
        other.head,
    )


def test_hashes_beyond_a_gap_are_looked_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sealtrail.chain_state.RECENT", 1)
    chains = Chains()
    feed(chains, *FIVE[2:])
    state = chains.by_id[CHAIN]
    state.trim()
    # 0 and 1 may be there on a branch, for all that memory knows.
    assert [state.needs_lookup(n) for n in range(6)] == [True, True, True, True, False, False]
    assert chains.place(FIVE[2], {(CHAIN, 2): [(FIVE[2].statement_hash, 0)]}).duplicate


def test_a_chain_without_its_beginning_costs_no_more_than_its_gaps() -> None:
    chains, links = Chains(), honest([1] * 50)
    feed(chains, *links[3:20], *links[25:])
    state = chains.by_id[CHAIN]
    assert len(state.beyond) == 2
    assert state.gaps() == [(0, 2), (20, 24)]
    assert state.signed_at_before(20) == links[19].signed_at
    assert state.signed_at_before(21) is None
    assert state.signed_at_before(0) is None
    after = state.above(20)
    assert after is not None
    assert (after.first_batch, after.arrival) == (25, links[25].arrival)


def test_a_heartbeat_counts_for_its_own_chain_only() -> None:
    chains = Chains()
    feed(chains, *FIVE)
    state = chains.by_id[CHAIN]
    assert state.heartbeat_s == 60
    assert state.speaks([w.key_record(w.ORDERS), w.key_record(w.ORDERS_PQ)])
    assert not state.speaks([w.key_record(w.ORDERS), w.key_record(w.BILLING, "billing")])


def test_what_chain_offers() -> None:
    assert all(hasattr(chain, name) for name in chain.__all__)
