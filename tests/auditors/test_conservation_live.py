"""The conservation check beside a pipeline that goes on: what is half way is no difference."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from sealtrail_audit.conservation import run
from sealtrail_audit.conservation.law import Commit, Law, Place
from sealtrail_audit.conservation.questions import CONTENT, PRESENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sealtrail_audit.conservation.law import Report
    from sealtrail_audit.conservation.questions import Questions

PLACE = Place("log", "provenance.events", 0)


class Window:
    """Offsets that were lost: no table has anything of them."""

    def fates(self) -> tuple[dict[str, int], int]:
        return {}, 0

    def nothing(self) -> list[Any]:
        return []

    twice = unfounded_duplicates = unfounded_releases = batches = holes = nothing

    def presence(self) -> Iterator[tuple[str, list[int], int]]:
        return ((table, [], 0) for table, _ in PRESENCE)

    def content(self) -> tuple[dict[tuple[str, str], int], int]:
        return {(one, other): 0 for _, one, other in CONTENT}, 0

    def links(self) -> tuple[list[str], list[str]]:
        return [], []


class Store:
    """A log whose commit reaches to offset 6; readers are shown what `ends` says, in turn."""

    def __init__(self, *ends: int, commits: Sequence[Commit] = ()) -> None:
        self.left = list(ends)
        self.found = commits
        self.before_window: int | None = None

    def places(self) -> list[Place]:
        return [PLACE]

    def ends(self) -> dict[Place, int]:
        return {PLACE: self.left.pop(0) if len(self.left) > 1 else self.left[0]}

    def commits(self, place: Place, after: int) -> Sequence[Commit]:
        return self.found

    def named_losses(self, place: Place) -> set[int]:
        return {0}

    def window(self, place: Place, low: int, high: int) -> Window:
        self.before_window = self.left[0]
        return Window()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return now


COMMIT = Commit(0, 6, lost=True, messages=0, rows=0)


def check(store: Store) -> Report:
    return run.Check(cast("Questions", store), None, {}, run.Rules(0)).run(PLACE.topic)


def test_a_commit_whose_end_is_not_shown_yet_is_waited_for(clock: list[float]) -> None:
    # The engine writes the end after the commit: the check may come between the two.
    store = Store(-1, -1, -1, 6, commits=[COMMIT])
    assert check(store).differences == []
    assert 0 < clock[0] < run.SHOWN_S
    assert store.before_window == 6, "the views lack rows before that"


def test_a_commit_that_is_never_shown_is_a_difference(clock: list[float]) -> None:
    (found,) = check(Store(-1, commits=[COMMIT])).differences
    assert (found.law, found.detail) == (Law.COMMITS, "readers see up to -1, commits reach 6")
    assert run.SHOWN_S < clock[0] < run.SHOWN_S + 1
