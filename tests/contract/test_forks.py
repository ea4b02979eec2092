"""Step 10: what contradicts a chain (B4, B7), who else writes to it, what continues it (B9)."""

from dataclasses import replace

import pytest
from tests.contract import world as w
from tests.contract.links import CHAIN, CLOSED, FIVE, codes, feed, forged, honest

from sealtrail.chain import Chains, Link, Placement
from sealtrail.findings import Code
from sealtrail.statement import ZERO, Continues


def test_b4_b7_a_fork_is_kept_beside_the_chain() -> None:
    chains = Chains()
    other = forged(FIVE[1])
    placements = feed(chains, *FIVE[:2], other, *FIVE[2:])
    assert [p.branch for p in placements] == [0, 0, 1, 0, 0, 0]
    assert codes(placements) == [[], [], [Code.FORK], [], [], []]
    assert chains.place(other).duplicate
    assert chains.by_id[CHAIN].head == FIVE[-1].statement_hash


def test_an_early_fork_does_not_displace_the_honest_batch() -> None:
    chains = Chains()
    # Stands on a fork of batch 1, arrives before the honest batch 2.
    first = forged(FIVE[1])
    second = replace(
        FIVE[2],
        statement_hash=w.digest("second"),
        previous=first.statement_hash,
        first_seq=first.next_seq,
    )
    placements = feed(chains, *FIVE[:2], first, second, *FIVE[2:])
    assert [p.branch for p in placements] == [0, 0, 1, 1, 0, 0, 0]
    # Who goes on where a fork ends adds no finding to that of the fork.
    assert codes(placements) == [[], [], [Code.FORK], [], [], [], []]


def test_forks_never_share_a_branch() -> None:
    chains = Chains()
    long = forged(FIVE[1], count=50)
    overlapping = replace(FIVE[2], statement_hash=w.digest("o"), first_seq=20, previous=ZERO)
    placements = feed(chains, *FIVE[:2], long, overlapping)
    assert [p.branch for p in placements] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("held", "link", "why"),
    [
        ([0, 1], forged(FIVE[1]), "already stands"),
        ([0], forged(FIVE[1], previous=w.digest("x")), "previous"),
        ([0], forged(FIVE[1], first_seq=9), "does not follow"),
        ([0], forged(FIVE[3], first_seq=3), "overlaps earlier"),
        ([0, 2], forged(FIVE[1]), "after it"),
        ([0, 2], forged(FIVE[1], closes=True), "goes on"),
        ([0, 3], forged(FIVE[1], count=5), "overlaps later"),
        ([4], forged(FIVE[2], closes=True), "goes on"),
        ([1, 3], forged(FIVE[2]), "after it"),
        ([1], forged(FIVE[2], previous=w.digest("x")), "previous"),
    ],
    ids=range(10),
)
def test_what_contradicts_its_neighbours_is_a_fork(held: list[int], link: Link, why: str) -> None:
    chains = Chains()
    feed(chains, *(FIVE[i] for i in held))
    (placement,) = feed(chains, link)
    assert placement.branch == 1
    assert [f.code for f in placement.findings] == [Code.FORK]
    assert why in placement.findings[0].detail
    # The honest batches still find their places.
    rest = feed(chains, *(x for i, x in enumerate(FIVE) if i not in held))
    assert all(p.branch == 0 for p in rest)


def test_nothing_follows_a_close() -> None:
    after = replace(
        FIVE[3], previous=CLOSED[2].statement_hash, first_seq=3, chain_id=CLOSED[0].chain_id
    )
    for held in (CLOSED, CLOSED[2:]):
        chains = Chains()
        feed(chains, *held)
        (placement,) = feed(chains, after)
        assert placement.branch == 1
        assert "closed" in placement.findings[0].detail
    chains = Chains()
    feed(chains, *CLOSED)
    assert chains.by_id[after.chain_id].closed


def test_a_closed_fork_is_not_followed() -> None:
    chains, closing = Chains(), forged(FIVE[1], closes=True)
    after = replace(
        FIVE[2], previous=closing.statement_hash, first_seq=closing.next_seq, statement_hash=ZERO
    )
    assert [p.branch for p in feed(chains, *FIVE[:2], closing, after)] == [0, 0, 1, 2]


THIEF = replace(w.IDENTITY, producer="billing")


def test_another_producer_cannot_write_into_a_chain() -> None:
    chains = Chains()
    feed(chains, *FIVE[:2])
    stolen = forged(FIVE[2], identity=THIEF)
    (placement,) = feed(chains, stolen)
    assert placement.refused is not None
    assert placement.refused.code is Code.ID_COLLISION
    assert (placement.branch, placement.duplicate) == (None, False)
    assert feed(chains, FIVE[2]) == [Placement(0)]


def test_another_producer_cannot_squat_on_a_chain() -> None:
    chains = Chains()
    early = forged(FIVE[1], identity=THIEF)
    placements = feed(chains, early, *FIVE)
    assert [p.branch for p in placements] == [0, 1, 1, 1, 1, 1]
    assert codes(placements) == [[Code.GAP], [Code.FORK], [], [], [], []]
    state = chains.by_id[CHAIN]
    assert (state.main, state.next_batch, state.identity) == (1, 5, w.IDENTITY)
    (placement,) = feed(chains, forged(FIVE[2], identity=THIEF))
    assert placement.refused is not None


def test_a_claim_before_the_genesis_forks() -> None:
    chains = Chains()
    placements = feed(chains, FIVE[1], forged(FIVE[2], identity=THIEF), FIVE[0])
    assert [p.branch for p in placements] == [0, 1, 0]
    assert chains.by_id[CHAIN].next_batch == 2


def test_b9_chains_that_share_the_bits_of_an_event_id() -> None:
    chains = Chains()
    feed(chains, *FIVE)
    twin = replace(FIVE[0], chain_id=CHAIN[:20] + bytes(12))
    (placement,) = feed(chains, twin)
    assert placement.refused is not None
    assert placement.refused.code is Code.ID_COLLISION


def following(name: str, batch_seq: int, head: bytes) -> Link:
    """A chain that continues FIVE at a batch."""
    point = Continues(CHAIN, batch_seq, head)
    return honest([1], nonce=w.digest(name), continues=point)[0]


def test_b9_a_chain_continues_another_once() -> None:
    chains = Chains()
    feed(chains, *FIVE)
    good = following("a", 4, FIVE[4].statement_hash)
    assert codes(feed(chains, good)) == [[]]
    assert chains.by_id[CHAIN].continued == Continues(CHAIN, 4, FIVE[4].statement_hash)
    twice = following("b", 4, FIVE[4].statement_hash)
    (placement,) = feed(chains, twice)
    assert placement.branch == 0
    assert [f.code for f in placement.findings] == [Code.FORK]
    assert "twice" in placement.findings[0].detail


@pytest.mark.parametrize(
    ("batch_seq", "head", "why"),
    [(3, FIVE[3].statement_hash, "behind"), (4, w.digest("x"), "another head")],
)
def test_a_continuation_from_behind_or_beside_the_head(
    batch_seq: int, head: bytes, why: str
) -> None:
    link = following("a", batch_seq, head)
    chains = Chains()
    feed(chains, *FIVE)
    (placement,) = feed(chains, link)
    assert [f.code for f in placement.findings] == [Code.FORK]
    assert why in placement.findings[0].detail
    # In another order the same is found, at the batch that comes last.
    later = Chains()
    found = codes(feed(later, *FIVE[:4], link, FIVE[4]))
    assert found == [[], [], [], [], [], [Code.FORK]]


def test_a_continuation_may_come_before_what_it_continues() -> None:
    chains = Chains()
    link = following("a", 4, FIVE[4].statement_hash)
    assert codes(feed(chains, link, *FIVE)) == [[]] * 6
    assert chains.by_id[CHAIN].continued is not None
    # And a genesis may come after its own successors.
    late = Chains()
    first, second = honest([1, 1], nonce=w.digest("c"), continues=Continues(CHAIN, 1, ZERO))
    feed(late, *FIVE, second)
    assert Code.FORK in codes(feed(late, first))[0]
