"""References of a batch in groups: each is found again, and no other."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.contract import world

from sealtrail import ids
from sealtrail_processor.linking.references import Groups, Reference, References

CHAIN = world.digest("chain")
FIRST = st.sampled_from([0, 255, ids.MAX_SEQ - 65_535])


@st.composite
def groups(draw: st.DrawFn) -> tuple[References, list[Reference]]:
    """A group, and what it says."""
    first, branch = draw(FIRST), draw(st.sampled_from([0, 2**32 - 1]))
    if draw(st.booleans()):
        events = sorted(draw(st.sets(st.integers(1, 65_535), max_size=8)))
        said = [
            Reference(CHAIN, first + n, branch, 0, ids.event_id(CHAIN, first + n - 1))
            for n in events
        ]
        return References(CHAIN, branch, first, tuple(events)), said
    places = sorted(draw(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 63)), min_size=1)))
    names = [draw(st.binary(min_size=16, max_size=16)) for _ in places]
    said = [
        Reference(CHAIN, first + n, branch, ordinal, name)
        for (n, ordinal), name in zip(places, names, strict=True)
    ]
    packed = (bytes(ordinal for _, ordinal in places), b"".join(names))
    return References(CHAIN, branch, first, tuple(n for n, _ in places), *packed), said


@given(groups(), st.data())
def test_a_group_says_its_references_and_no_others(made: Any, data: st.DataObject) -> None:
    group, said = made
    assert list(group) == said
    assert len(group) == len(said)
    assert all(reference in group for reference in said)
    for reference in said:
        assert list(References.of(reference)) == [reference]
        assert reference in References.of(reference)
        field = data.draw(st.sampled_from(Reference._fields))
        value = getattr(reference, field)
        changed = bytes([value[0] ^ 1]) + value[1:] if isinstance(value, bytes) else value + 1
        other = reference._replace(**{field: changed})
        assert (other in group) is (other in said)


def test_a_reference_is_looked_for_and_not_all_are_gone_through() -> None:
    class Counted(tuple[int, ...]):
        __slots__ = ()
        looked = 0

        def __getitem__(self, index: Any) -> Any:
            Counted.looked += 1
            return super().__getitem__(index)

    events = Counted(range(1, 60_001))
    group = References(CHAIN, 0, 0, events)
    wanted = Reference(CHAIN, 50_000, 0, 0, ids.event_id(CHAIN, 49_999))
    assert wanted in group
    assert wanted._replace(seq=70_000) not in group
    assert Counted.looked < 60


@given(st.data())
def test_groups_say_what_any_of_them_says(data: st.DataObject) -> None:
    groups = []
    for chain in (CHAIN, world.digest("other")):
        for first in sorted(data.draw(st.sets(st.sampled_from([0, 4, 8, 9])))):
            events = tuple(sorted(data.draw(st.sets(st.integers(1, 3)))))
            groups.append(References(chain, 0, first, events))
            groups.append(References(chain, 0, first, (0, 2), b"\1\0", bytes(32)))
    said = {reference for group in groups for reference in group}
    asked = st.builds(
        Reference,
        st.sampled_from([CHAIN, world.digest("other")]),
        st.integers(0, 13),
        st.sampled_from([0, 1]),
        st.integers(0, 1),
        st.just(bytes(16)) | st.builds(ids.event_id, st.just(CHAIN), st.integers(0, 12)),
    )
    looked = Groups(groups)
    for reference in (*said, *data.draw(st.lists(asked, max_size=20))):
        # Batches of a branch do not overlap.
        mine = [g for g in groups if g.first_seq <= reference.seq and g.chain == reference.chain]
        last = max((g.first_seq for g in mine), default=-1)
        expected = any(reference in g for g in mine if g.first_seq == last)
        assert (reference in looked) is expected
