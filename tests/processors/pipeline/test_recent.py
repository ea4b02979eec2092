"""Which references memory proves: events named just as they were committed, and no others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract import world

from sealtrail import ids
from sealtrail.event import ParentRef
from sealtrail_processor.linking.link_store import REFERENCE
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
        statement=statement, leaf_hashes=LEAVES, occurred_at=TIMES, parents=((),) * 4
    )


def child(*parents: ParentRef, index: int = 3) -> Any:
    """The batch, with parents of one of its events."""
    batch = made()
    batch.parents = tuple(parents if n == index else () for n in range(4))
    return batch


def true(number: int, chain: bytes = CHAIN) -> ParentRef:
    return ParentRef(ids.event_id(chain, FIRST + number), TIMES[number], LEAVES[number])


def remembering(*batches: Any) -> Recent:
    recent = Recent(100)
    for batch in batches:
        recent.add(SimpleNamespace(batch=batch))  # type: ignore[arg-type] # what is looked at
    return recent


def split(recent: Recent, batch: Any) -> tuple[list[Any], list[Any]]:
    """Places of the references that are proved, and of the others."""
    held, rest = recent.split(SimpleNamespace(batch=batch, branch=5))  # type: ignore[arg-type] # see above
    places = []
    for chain, seq, branch, ordinal, name in map(REFERENCE.unpack, held):
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
    batch.parents = parents
    known = [true(n, chain) for n in range(4) for chain in (CHAIN, OTHER)]
    assert split(remembering(batch, made(OTHER)), batch) == slow(batch, known)
