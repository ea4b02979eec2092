"""The demo says that all was well only when it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sealtrail_local.demo.verdict import Outcome, problems

GOOD = Outcome(
    events_sent=100,
    events_stored=100,
    duplicates_sent=9,
    duplicates_found=9,
    links_sent=90,
    links_resolved=90,
    findings={"AHEAD": 2, "CAUSALITY": 14, "BAD_ROOT": 1, "BAD_SIGNATURE": 1},
    history_commits=80,
    history_rows=80,
    history_causality=4,
    history_edges_back=4,
    live_causality=10,
    suspects=["orders"],
    skew_seconds=89.5,
    clock_offset=90.0,
    forged_sent=2,
    forged_found=2,
    edited_rows=1,
    edited_rows_found=1,
    audit_findings=1,
)
TRUTH = frozenset("abcd")


def test_a_good_run_has_no_problems():
    assert problems(GOOD, invoices=10, truth=TRUTH, early=["d", "c", "b", "a"]) == []
    assert problems(GOOD, invoices=10, truth=None, early=["x"]) == []


def test_the_commits_of_the_ground_truth_are_compared_one_by_one():
    found = problems(GOOD, invoices=10, truth=TRUTH, early=["a", "b", "c", "x"])
    assert found == ["the ground truth knows 4 commits before a parent, and which"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"events_stored": 99}, "events stored: 99, not 100"),
        ({"events_stored": 101}, "events stored"),
        ({"duplicates_found": 8}, "duplicates found"),
        ({"links_resolved": 89}, "links verified"),
        ({"links_unresolved": 1}, "links unresolved"),
        ({"gaps": 1}, "gaps"),
        ({"history_causality": 3}, "commits found before a parent"),
        ({"history_rows": 79}, "exactly one row: 79, not 80"),
        ({"live_causality": 9}, "invoices found"),
        ({"suspects": []}, "put down to nobody"),
        ({"suspects": ["billing"]}, "put down to"),
        ({"skew_seconds": 3.0}, "3.0 s were measured"),
        ({"forged_found": 1}, "forged messages"),
        ({"edited_rows_found": 0}, "edited rows"),
        ({"audit_findings": 2}, "findings of the audit"),
        ({"findings": {"CAUSALITY": 14}}, "clock of orders is ahead"),
        ({"findings": {**GOOD.findings, "FORK": 1}}, "nobody caused: FORK"),
    ],
)
def test_whatever_differs_is_said(changed: dict[str, Any], said: str):
    found = problems(replace(GOOD, **changed), invoices=10, truth=TRUTH, early=TRUTH)
    assert any(said in line for line in found), found


def test_the_json_line_has_what_was_promised():
    assert set(GOOD.value()) >= {
        "events_sent",
        "events_stored",
        "duplicates_sent",
        "duplicates_found",
        "links_resolved",
        "links_unresolved",
        "findings",
        "history_causality",
        "forged_sent",
        "forged_found",
        "edited_rows",
        "edited_rows_found",
        "seconds",
        "events_per_second",
    }
