"""The bookkeeping of `make edits`: what counts as located, and what as false."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.attacks import edits
from tests.attacks.edits import Edit, Message
from tests.attacks.parts import Gone

FOUND = [Message("log", "provenance.events", 0, n, 10 * n, 10, n // 4) for n in range(4_000)]


def report(*named: tuple[str, str, int, int], left_out: int = 0) -> dict[str, Any]:
    findings = [
        {"code": code, "table": table, "key": {"partition": p, "offset": o}}
        for code, table, p, o in named
    ]
    counts = Counter(code for code, *_ in named)
    return {"findings": findings, "findings_left_out": left_out, "counts": counts}


def test_a_seed_gives_the_same_edits_each_of_another_message() -> None:
    one, again, other = (edits.plan(FOUND, 500, seed) for seed in (1, 1, 2))
    assert one == again != other
    assert len({e.message.offset for e in one}) == len(one) == 500
    assert {e.kind for e in one} == set(edits.KINDS)
    assert {e.table for e in one} == set(edits.TABLES)
    disposed = [e.message.commit for e in one if e.table == "dispositions"]
    others = {e.message.commit for e in one if e.table != "dispositions"}
    assert len(set(disposed)) == len(disposed)
    assert not set(disposed) & others


def test_each_edit_is_in_one_statement() -> None:
    planned = edits.plan(FOUND, 300, 3)
    said = edits.statements(planned)
    assert len(said) < 60
    for edit in planned:
        place = f"({edit.message.partition}, {edit.message.offset}"
        assert any(place in sql and f" {edit.table} " in sql for sql in said)
    kinds = [sql.split()[0] for sql in said]
    assert kinds == sorted(kinds, reverse=True)  # what is copied is copied before it is changed


def test_what_is_not_named_is_missed_and_what_is_nobodys_is_false() -> None:
    one, two = (Edit("update", FOUND[n], "events", "activity", "'x'", 3) for n in (5, 6))
    figures = edits.judge([one, two], [], report(one.named))
    assert (figures["edits"], figures["located"], figures["false"]) == (2, 1, 0)
    other = ("ROW_CHANGED", "events", 0, 99)
    figures = edits.judge([one], [], report(one.named, other, left_out=2))
    assert (figures["located"], figures["false"]) == (1, 3)
    # The right place under another name is not enough.
    figures = edits.judge([one], [], report(("ROW_ADDED", *one.named[1:])))
    assert (figures["located"], figures["false"]) == (0, 1)


def test_a_part_is_located_when_all_its_messages_are() -> None:
    part = Gone("cut", "batches", "all_1_1_0", frozenset({(0, 1), (0, 2)}))
    whole = report(("ROW_MISSING", "batches", 0, 1), ("ROW_MISSING", "batches", 0, 2))
    half = report(("ROW_MISSING", "batches", 0, 1))
    assert edits.judge([], [part], whole)["located"] == 1
    figures = edits.judge([], [part], half)
    assert (figures["located"], figures["parts"]) == (0, {"part cut": 1})
    assert figures["parts_missed"] == {"part cut": 1}
