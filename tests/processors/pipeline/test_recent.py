"""Which references memory proves: events named just as they were committed, and no others."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract import world

from sealtrail import avro, ids
from sealtrail.causal import Parents, causal_prefixes
from sealtrail.event import ParentRef
from sealtrail_processor.linking.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Sequence

CHAIN, OTHER = world.digest("chain"), world.digest("other")
FIRST = 7
LEAVES = tuple(world.digest(f"leaf {n}") for n in range(4))
TIMES = (100, 200, 300, 400)


def made(chain: bytes = CHAIN, tenant: str = "default") -> Any:
    """A batch of four events, as far as linking looks at it."""
    statement = SimpleNamespace(chain_id=chain, first_seq=FIRST, tenant=tenant)
    return SimpleNamespace(
        statement=statement, leaf_hashes=LEAVES, occurred_at=TIMES, parents=named([()] * 4, chain)
    )


def named(parents: Sequence[Sequence[ParentRef]], chain: bytes = CHAIN) -> Parents:
    """What the contract makes of events that name these."""
    fields = {**world.event_schema(), "fields": world.event_schema()["fields"][:2]}
    events = [
        avro.Codec(fields).encode({"occurred_at": at, "parents": [p._asdict() for p in of]})
        for at, of in zip(TIMES, parents, strict=True)
    ]
    _, found = causal_prefixes(events, LEAVES, ids.template(chain) + FIRST)
    return found


def child(*parents: ParentRef, index: int = 3) -> Any:
    """The batch, with parents of one of its events."""
    batch = made()
    batch.parents = named([parents if n == index else () for n in range(4)])
    return batch


def true(number: int, chain: bytes = CHAIN) -> ParentRef:
    return ParentRef(ids.event_id(chain, FIRST + number), TIMES[number], LEAVES[number])


def remembering(*batches: Any) -> Recent:
    recent = Recent(100)
    for batch in batches:
        recent.add(SimpleNamespace(batch=batch, branch=0))  # type: ignore[arg-type] # what is looked at
    return recent


def split(recent: Recent, batch: Any) -> tuple[list[Any], list[Any]]:
    """Places of the references that are proved, and of the others."""
    held, rest = recent.split(SimpleNamespace(batch=batch, branch=5))  # type: ignore[arg-type] # see above
    places = []
    for chain, seq, branch, ordinal, name in (one for group in held for one in group):
        assert (chain, branch) == (CHAIN, 5)
        assert name == batch.parents[seq - FIRST][ordinal].event_id
        places.append((seq - FIRST, ordinal))
    return places, rest


def test_the_event_before_needs_no_memory() -> None:
    assert split(remembering(), child(true(2))) == ([(3, 0)], [])


@pytest.mark.parametrize(
    "forged",
    [
        true(2)._replace(leaf_hash=LEAVES[1]),
        true(2)._replace(occurred_at=TIMES[2] + 1),
        true(2)._replace(event_id=ids.event_id(CHAIN, FIRST + 1)),
        true(2)._replace(event_id=ids.event_id(OTHER, FIRST + 2)),
        # Itself, and one that is yet to come: no hash of it could be known.
        true(3)._replace(leaf_hash=world.digest("made up")),
    ],
)
def test_what_differs_in_any_part_is_left_to_the_store(forged: ParentRef) -> None:
    recent = remembering(made())
    assert split(recent, child(forged)) == ([], [(3, 0)])
    assert split(recent, child(true(2), forged)) == ([(3, 0)], [(3, 1)])


def test_the_first_event_of_a_batch_has_none_before_it() -> None:
    last = ParentRef(ids.event_id(CHAIN, FIRST - 1), TIMES[-1], LEAVES[-1])
    assert split(remembering(), child(last, index=0)) == ([], [(0, 0)])


def test_of_another_tenant_nothing_is_proved() -> None:
    recent = remembering(made(OTHER, tenant="another"))
    assert split(recent, child(true(1, OTHER))) == ([], [(3, 0)])
    assert split(remembering(made(OTHER)), child(true(1, OTHER))) == ([(3, 0)], [])


def slow(batch: Any, known: Sequence[ParentRef]) -> tuple[list[Any], list[Any]]:
    """The same, one by one: what was committed and is named as it was."""
    places = [(i, n) for i, parents in enumerate(batch.parents) for n in range(len(parents))]
    held = [(i, n) for i, n in places if batch.parents[i][n] in known]
    return held, [place for place in places if place not in held]


PARENTS = st.builds(
    ParentRef,
    st.builds(ids.event_id, st.sampled_from([CHAIN, OTHER]), st.integers(FIRST - 1, FIRST + 4)),
    st.sampled_from(TIMES),
    st.sampled_from(LEAVES),
)


@given(st.tuples(*[st.lists(PARENTS, max_size=3).map(tuple)] * 4))
def test_all_that_were_committed_are_found_and_no_others(
    parents: tuple[tuple[ParentRef, ...], ...],
) -> None:
    batch = made()
    batch.parents = named(parents)
    known = [true(n, chain) for n in range(4) for chain in (CHAIN, OTHER)]
    held, rest = split(remembering(batch, made(OTHER)), batch)
    assert (sorted(held), rest) == slow(batch, known)


def held(recent: Recent, parent: ParentRef) -> bool:
    return recent.holds(parent.event_id, parent.occurred_at, parent.leaf_hash, "default")


def piece(number: int, branch: int = 0) -> tuple[Any, ParentRef]:
    """One of many batches of an event each, and how it is named."""
    leaf = world.digest(f"{number}/{branch}")
    statement = SimpleNamespace(chain_id=CHAIN, first_seq=number, tenant="default")
    batch = SimpleNamespace(statement=statement, leaf_hashes=(leaf,), occurred_at=(number,))
    judged = SimpleNamespace(batch=batch, branch=branch)
    return judged, ParentRef(ids.event_id(CHAIN, number), number, leaf)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), unique=True, max_size=20))
def test_of_each_branch_the_newest_are_remembered(places: list[tuple[int, int]]) -> None:
    recent = Recent(8)
    named = []
    for place in places:
        judged, name = piece(*place)
        recent.add(judged)
        named.append(name)
        assert [held(recent, each) for each in named[-8:]] == [True] * len(named[-8:])
        assert not any(held(recent, each) for each in named[:-8])
    assert recent._held == min(len(places), 8)


def test_a_chain_of_many_batches_is_not_gone_through_for_what_never_comes() -> None:
    recent = Recent(100_000)
    for number in range(30_000):
        recent.add(piece(number)[0])
    _, never = piece(29_000, branch=7)
    began = time.perf_counter()
    assert not any(held(recent, never) for _ in range(10_000))
    # One after the other it was 10,000 times 2 ms.
    assert time.perf_counter() - began < 2.0
