"""The table of `make forgeries`: what counts for which row, and what is missing from it."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from tests.attacks import proofs, tally
from tests.attacks.forgeries import ATTACKS
from tests.attacks.registry import ROWS
from tests.catalogue import rows
from tests.scenarios.fates import Expected, Sent

from sealtrail import merkle
from sealtrail.findings import Code, Disposition

if TYPE_CHECKING:
    from tests.attacks.played import Played

# Edited at rest, harmed as files, given to a verifier: not played at the topic.
ELSEWHERE = {"F1", "F2", "F8"}


def seen(wrong: list[str]) -> Played:
    """An attack of A1 with a message refused, one accepted that is named, and an honest one."""
    name = "wrong_leaf_hash"
    bad = Sent(name, 0, Disposition.QUARANTINED, Code.BAD_ROOT)
    named, honest = (Sent(name, 0, Disposition.ACCEPTED) for _ in range(2))
    expected = [
        Expected(name, Code.BAD_ROOT, bad, 0),
        Expected(name, Code.LINK_MISMATCH, named, 0),
        Expected(name, Code.GAP, None, 0),
    ]
    scene = SimpleNamespace(sent=[bad, named, honest, Sent("", 0, bad.disposition)])
    scene.expected = expected
    return cast("Played", SimpleNamespace(scene=scene, wrong=lambda _: wrong))


def test_a_refusal_counts_once_and_a_finding_on_what_was_accepted_too() -> None:
    count = tally.of_played(seen([]))["A1"]
    assert (count.hidden, count.found) == (3, 3)
    assert count.names == Counter(BAD_ROOT=1, LINK_MISMATCH=1, GAP=1)
    assert tally.of_played(seen(["not found"]))["A1"].found == 2


def test_a_row_of_which_nothing_was_hidden_is_missed_unless_it_waits() -> None:
    everything = {row: tally.Count(1, 1) for row in rows()}
    waiting = {r.id for r in rows().values() if r.waits_for and r.id[0] in tally.GROUPS}
    for row in waiting:
        del everything[row]
    assert tally.lacking(everything) == []
    del everything["D6"]
    assert tally.lacking(everything) == ["D6"]
    said: dict[str, Any] = tally.figures(everything)
    assert {row for row, told in said.items() if "waits_for" in told} == waiting
    assert {line[0] for line in tally.lines(everything)} == set(said)
    assert set(said) == {r for r in rows() if r[0] in tally.GROUPS}


def test_every_row_that_waits_for_nothing_is_forged() -> None:
    forged = {row for name in ATTACKS for row in ROWS[name]} | ELSEWHERE
    assert {r.id for r in rows().values() if r.id[0] in tally.GROUPS and not r.waits_for} <= forged


def test_no_forged_proof_is_believed_in_trees_of_any_shape() -> None:
    for size in (*range(3, 40), 255, 256, 257):
        leaves = [merkle.leaf_hash(bytes([n % 256, n // 256])) for n in range(size)]
        for index in {0, 1, size // 2, size - 2, size - 1}:
            assert not proofs.refused(proofs.honest(leaves, index))
            believed = [
                kind for kind, claim in proofs.forged(leaves, index) if not proofs.refused(claim)
            ]
            assert believed == []
