"""Walking lineage: levels, limits, cycles, and the tree that is drawn of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sealtrail import ids
from sealtrail.errors import SealtrailError
from sealtrail_audit.graph import choose, readings
from sealtrail_audit.lineage import Edge, Entity, Node, lines, walk

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sealtrail_audit.lineage import Reference


def eid(number: int) -> bytes:
    return ids.event_id(bytes(32), number)


class Fake:
    """A graph of child -> parents, by small numbers."""

    def __init__(self, parents: dict[int, list[int]]) -> None:
        self.all = [
            Edge(eid(c), eid(p), ("00", c, 0, n))
            for c, ps in parents.items()
            for n, p in enumerate(ps)
        ]
        self.stored = {eid(n): Node(eid(n), activity=str(n)) for n in parents}
        self.asked = self.asked_verdicts = 0

    def edges(self, event_ids: Collection[bytes], *, up: bool) -> Sequence[Edge]:
        self.asked += 1
        return [e for e in self.all if (e.child if up else e.parent) in event_ids]

    def verdicts(self, references: Collection[Reference]) -> Mapping[Reference, str]:
        self.asked_verdicts += 1
        # Of the last parent of an event nothing is known yet.
        last = {edge.child: edge.reference for edge in self.all}
        return {r: "VERIFIED" for r in references if r not in last.values() or r[3] == 0}

    def nodes(self, event_ids: Collection[bytes]) -> Mapping[bytes, Node]:
        return {i: self.stored[i] for i in event_ids if i in self.stored}


DIAMOND = {0: [], 1: [0], 2: [0], 3: [1, 2]}


def test_a_diamond_is_asked_level_by_level_and_drawn_once():
    source = Fake(DIAMOND)
    found = walk(source, [eid(3)], up=True, depth=9, max_nodes=99)
    assert [n.activity for n in found.nodes.values()] == ["3", "1", "2", "0"]
    assert (source.asked, source.asked_verdicts) == (3, 1)
    assert [[e.verdict for e in edges] for edges in found.edges.values()] == [
        ["VERIFIED", "PENDING"],
        ["VERIFIED"],
        ["VERIFIED"],
    ]
    drawn = [(line.prefix, line.node.activity, line.again) for line in lines(found)]
    assert drawn == [
        ("", "3", False),
        ("├── ", "1", False),
        ("│   └── ", "0", False),
        ("└── ", "2", False),
        ("    └── ", "0", True),
    ]
    assert found.notes == []


def test_down_goes_to_children():
    found = walk(Fake(DIAMOND), [eid(0)], up=False, depth=9, max_nodes=99)
    assert [n.activity for n in found.nodes.values()] == ["0", "1", "2", "3"]


def test_a_forged_cycle_ends():
    found = walk(Fake({0: [1], 1: [0]}), [eid(0)], up=True, depth=10_000, max_nodes=99)
    assert len(found.nodes) == 2
    assert [line.again for line in lines(found)] == [False, False, True]


def test_depth_and_number_are_limits_that_are_told():
    chain = {n: [n - 1] if n else [] for n in range(50)}
    short = walk(Fake(chain), [eid(49)], up=True, depth=3, max_nodes=99)
    assert len(short.nodes) == 4
    assert short.notes == ["depth 3 reached: 1 further events lie beyond it"]
    star = {0: [], **{n: [0] for n in range(1, 50)}}
    few = walk(Fake(star), [eid(0)], up=False, depth=3, max_nodes=10)
    assert len(few.nodes) == 10
    assert few.notes == ["limit of 10 events reached: 40 more were seen and left out"]


def test_a_walk_whose_time_is_up_says_where_it_stopped():
    chain = {n: [n - 1] if n else [] for n in range(50)}
    asked = iter([False, False, True])
    found = walk(
        Fake(chain), [eid(49)], up=True, depth=99, max_nodes=99, time_is_up=lambda: next(asked)
    )
    assert [n.activity for n in found.nodes.values()] == ["49", "48", "47"]
    assert found.notes == ["time is up at depth 2: 1 events lead further"]


def test_a_deep_chain_is_drawn_without_recursion():
    chain = {n: [n - 1] if n else [] for n in range(3000)}
    found = walk(Fake(chain), [eid(2999)], up=True, depth=10_000, max_nodes=10_000)
    assert sum(1 for _ in lines(found)) == 3000


def test_a_parent_that_is_not_stored_is_shown_as_such():
    found = walk(Fake({1: [0]}), [eid(1)], up=True, depth=5, max_nodes=9)
    assert [n.stored for n in found.nodes.values()] == [True, False]
    assert found.value()["edges"] == [
        {"child": ids.text(eid(1)), "parent": ids.text(eid(0)), "verdict": "VERIFIED"}
    ]


def test_names_may_hold_slashes_and_at_signs():
    stored = {("git://host/repo", "src/a@b.c")}
    text = "git://host/repo/src/a@b.c@1f"
    assert choose(text, list(readings(text)), stored) == Entity(
        "git://host/repo", "src/a@b.c", "1f"
    )
    text = "git://host/repo:src/a@b.c@1f"
    assert choose(text, list(readings(text)), stored) == Entity(
        "git://host/repo", "src/a@b.c", "1f"
    )
    bare = "src/a@b.c"
    assert choose(bare, list(readings(bare)), stored) == Entity("git://host/repo", "src/a@b.c")


def test_a_name_in_two_namespaces_must_be_told_apart():
    with pytest.raises(SealtrailError, match="may be"):
        choose("x", list(readings("x")), {("a", "x"), ("b", "x")})
    with pytest.raises(SealtrailError, match="knows no entity"):
        choose("x", list(readings("x")), set())
