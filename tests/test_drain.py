"""What the scenarios wait for before they ask whether the law holds."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.crash import harness
from tests.crash.harness import Failed, Pipeline
from tests.faults.line import Line
from tests.scenarios import conservation

from sealtrail_audit.conservation import law

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SENT = 1_200
UNREAD = law.Difference(
    law.Law.UNREAD, law.Place("here", "provenance.events", 1), "the log ends at 9"
)


class Visible(Pipeline):
    """All events can be seen; what waits behind them is as `waiting` says, one look at a time."""

    def __init__(self, folder: Path, waiting: Iterator[dict[int, int]], ends: bool) -> None:
        self.folder = folder
        self.left = waiting
        self.process: Any = SimpleNamespace(poll=lambda: 3 if ends else None, returncode=3)

    def committed(self) -> int:
        return SENT


@pytest.fixture
def line(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    looks, ends = request.param
    pipeline = Visible(tmp_path, iter(looks), ends)
    monkeypatch.setattr(conservation, "behind", lambda _: next(pipeline.left))
    monkeypatch.setattr(harness, "time", SimpleNamespace(sleep=lambda _: None, monotonic=clock()))
    made = Line(pipeline)
    made.sent, made.worker = SENT, pipeline.process
    return made


def clock() -> Any:
    seconds = itertools.count()
    return lambda: float(next(seconds))


@pytest.mark.parametrize("line", [([{1: 1}, {1: 1}, {}], False)], indirect=True)
def test_what_ends_a_chain_is_waited_for_behind_the_last_event(line: Line) -> None:
    line.drained()
    with pytest.raises(StopIteration):
        line.drained()


@pytest.mark.parametrize("line", [([{1: 2}], True)], indirect=True)
def test_a_worker_that_ended_reads_no_more(line: Line) -> None:
    with pytest.raises(Failed, match=r"ended with 3, \{1: 2\} wait"):
        line.drained()


@pytest.mark.parametrize("line", [(itertools.repeat({0: 1}), False)], indirect=True)
def test_what_is_never_read_is_named(line: Line) -> None:
    with pytest.raises(Failed, match=r"messages of partitions wait: \{0: 1\}"):
        line.drained(10)


@pytest.mark.parametrize("line", [([], False)], indirect=True)
def test_a_law_that_is_broken_says_which(monkeypatch: pytest.MonkeyPatch, line: Line) -> None:
    found = law.Report(differences=[UNREAD])
    monkeypatch.setattr(conservation, "check", lambda _: found)
    with pytest.raises(AssertionError, match=r"^UNREAD .*/1 of log here: the log ends at 9"):
        line.law()
