"""The conservation check: log by log, range by range; then the broker's word against the store's.

Order, because the pipeline goes on meanwhile: the broker's group is asked first, the store after
it (it may only be further by then), the end of the log again where the store seems to be beyond it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail_audit.conservation import law
from sealtrail_audit.conservation.law import Difference, Law, Place, Report, Tally
from sealtrail_audit.conservation.progress import Mark
from sealtrail_audit.conservation.questions import CONTENT, Questions, Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sealtrail_audit.conservation.broker import Broker, Side
    from sealtrail_audit.conservation.law import Commit, Cover, Missing

# Offsets and events of one range: a question stays within an analyst's memory and time.
MOST_OFFSETS = 20_000
MOST_EVENTS = 500_000
# Holes of a log about which its broker is asked in one run.
MOST_HOLES = 500
# A commit and the end that readers are shown are written one after the other by the engine: within
# this time the second has come, also on a disk that is busy.
SHOWN_S, PAUSE_S = 5.0, 0.1


@dataclass(frozen=True, slots=True)
class Rules:
    """How strict to be.

    settled: gaps whose later end arrived after this are too young to be named, microseconds.
    drained: whether all that the log holds must be committed by now.
    """

    settled: int
    drained: bool = False


class Check:
    """One run.

    Args:
        questions: asks the store.
        broker: None: the store alone is looked at.
        marks: how far an earlier run came.
        rules: how strict to be.
    """

    def __init__(
        self,
        questions: Questions,
        broker: Broker | None,
        marks: Mapping[Place, Mark],
        rules: Rules,
    ) -> None:
        self._questions = questions
        self._broker = broker
        self._before = marks
        self._rules = rules
        self._report = Report()
        self._asked = 0
        self.marks: dict[Place, Mark] = dict(marks)

    def run(self, topic: str) -> Report:
        """Check all that is committed; `marks` then says how far the next run need not look."""
        sides = {} if self._broker is None else {s.place: s for s in self._broker.sides(topic)}
        shown = self._questions.ends()
        # A log of which nothing is left is asked about where an earlier run has seen it.
        before = (place for place in self._before if place.topic == topic)
        for place in dict.fromkeys((*self._questions.places(), *before)):
            self._report.tallies.append(self._log(place, sides.get(place), shown.get(place, -1)))
        ends = {t.place: t.end for t in self._report.tallies}
        found = law.ahead(sides.values(), ends, drained=self._rules.drained)
        self._report.differences += found
        self._beyond(topic, sides, ends)
        return self._report

    def _beyond(self, topic: str, sides: Mapping[Place, Side], ends: Mapping[Place, int]) -> None:
        """The store has committed what the log never gave out: it was cut off."""
        suspects = [p for p, side in sides.items() if ends.get(p, -1) >= side.end]
        if not suspects or self._broker is None:
            return
        now = {side.place: side for side in self._broker.sides(topic)}
        for place in suspects:
            if place in now and ends[place] >= now[place].end:
                detail = f"{ends[place]} is committed, the log ends at {now[place].end - 1}"
                self._report.differences.append(Difference(Law.UNREAD, place, detail))

    def _log(self, place: Place, side: Side | None, shown: int) -> Tally:
        mark = self._before.get(place)
        after = -1 if mark is None else mark.checked
        covered = law.cover(self._questions.commits(place, after), after)
        tally = Tally(place, after, covered.end, side=side)
        if mark is not None:
            tally.consumed, tally.skipped, tally.events = mark.consumed, mark.skipped, mark.events
            tally.fates = dict(mark.fates)
        self._report.overlaps += len(covered.overlaps)
        found = [
            law.difference(Law.COMMITS, place, "no commit covers these offsets", [f"{a} to {b}"])
            for a, b in covered.holes
        ]
        # Commits that came since `shown` was asked are not shown yet, and earlier ones must be.
        if shown < covered.end:
            shown = self._shown(place, covered)
        if shown < covered.end:
            detail = f"readers see up to {shown}, commits reach {covered.end}"
            found.append(Difference(Law.COMMITS, place, detail))
        lost = [c for c in covered.commits if c.lost]
        if lost:
            named = self._questions.named_losses(place)
            unnamed = [f"{c.first} to {c.last}" for c in lost if c.first not in named]
            if unnamed:
                found.append(
                    law.difference(Law.LOST, place, "lost, and no finding says so", unnamed)
                )
        self._report.differences += found
        clean = not found
        for commits in law.windows(covered, after + 1, MOST_OFFSETS, MOST_EVENTS):
            clean = self._window(tally, commits, advance=clean)
        return tally

    def _shown(self, place: Place, covered: Cover) -> int:
        """The end that readers are shown, once it is that of the commits or should be.

        Before it is, the views that are held against the tables lack the last commit's rows.
        """
        patience = time.monotonic() + (SHOWN_S if covered.commits else 0)
        while True:
            shown = self._questions.ends().get(place, -1)
            if shown >= covered.end or time.monotonic() > patience:
                return shown
            time.sleep(PAUSE_S)

    def _window(self, tally: Tally, commits: Sequence[Commit], *, advance: bool) -> bool:
        """One range of offsets; whether everything up to its end is settled."""
        place = tally.place
        low = max(commits[0].first, tally.checked + 1)
        high = max(c.last for c in commits)
        asked = self._questions.window(place, low, high)
        lost = [(c.first, c.last) for c in commits if c.lost]
        gone = _size([(low, high)]) - _size(law.without([(low, high)], lost))
        fates, events = asked.fates()
        found, own = self._holes(tally, asked, commits)
        found += self._fates(place, asked)
        if low == commits[0].first:
            found += law.sums(place, commits, fates, events)
        consumed = high - low + 1 - own
        if consumed != sum(fates.values()) + gone:
            detail = f"{consumed} offsets consumed, {sum(fates.values()) + gone} have a fate"
            found.append(law.difference(Law.SUM, place, detail, [f"{low} to {high}"]))
        seen = self._content(place, asked, found)
        young = self._chains(place, asked, found)
        self._report.differences += found
        tally.consumed, tally.skipped = tally.consumed + consumed, tally.skipped + own
        tally.events += seen
        tally.count(fates, gone)
        advance = advance and not found and not young
        if advance:
            numbers = (high, tally.consumed, tally.skipped, tally.events)
            self.marks[place] = Mark(*numbers, dict(tally.fates))
        return advance

    def _holes(
        self, tally: Tally, asked: Window, commits: Sequence[Commit]
    ) -> tuple[list[Difference], int]:
        """Offsets without a fate: the log's own holes are no loss, and the broker knows them."""
        lost = [(c.first, c.last) for c in commits if c.lost]
        holes = law.without(asked.holes(), lost)
        bad: list[str] = []
        own = 0
        why = "committed, and no fate is on record"
        for first, last in holes:
            if self._broker is None:
                why = "committed, no fate is on record, and no broker was asked"
            elif tally.side is None or first < tally.side.start:
                why = "committed, no fate is on record, and the log no longer has them"
            elif self._asked < MOST_HOLES:
                self._asked += 1
                if self._broker.message_in(tally.place, first, last) is None:
                    own += last - first + 1
                    continue
            else:
                why = f"committed, no fate is on record; only {MOST_HOLES} holes were asked about"
            bad.append(str(first) if first == last else f"{first} to {last}")
        count = _size(holes) - own
        return [law.difference(Law.ONE_FATE, tally.place, why, bad, count)] if bad else [], own

    @staticmethod
    def _fates(place: Place, asked: Window) -> list[Difference]:
        questions = (
            (Law.ONE_FATE, "more than one fate", asked.twice()),
            (
                Law.DUPLICATE,
                "dropped as duplicates of what is not there",
                asked.unfounded_duplicates(),
            ),
            (Law.RELEASED, "released, and never refused", asked.unfounded_releases()),
        )
        return [law.difference(which, place, why, at) for which, why, at in questions if at]

    @staticmethod
    def _content(place: Place, asked: Window, found: list[Difference]) -> int:
        """What belongs to each fate is there; how many events readers see."""
        for table, offsets, count in asked.presence():
            if count:
                detail = f"the rows of {table} are not those of the fates"
                found.append(law.difference(Law.ROWS, place, detail, offsets, count))
        uneven, events = asked.content()
        for complaint, one, other in CONTENT:
            if uneven[one, other]:
                offsets, count = asked.uneven(one, other)
                which = Law.LINKS if one == "parents" else Law.ONCE
                detail = (
                    f"{complaint} differ in number" if one != "first" else f"{complaint} differ"
                )
                found.append(law.difference(which, place, detail, offsets, count))
        unfounded, other_parent = asked.links()
        for detail, links in (
            ("VERIFIED, and no such parent is stored", unfounded),
            ("the verdict is about another parent", other_parent),
        ):
            if links:
                found.append(law.difference(Law.LINKS, place, detail, links))
        return int(events)

    def _chains(self, place: Place, asked: Window, found: list[Difference]) -> bool:
        """Chains are whole but for named gaps; whether some gap is too young to be named."""
        broken, gaps = law.joints(place, asked.batches())
        found += broken
        main, named = (asked.main(), asked.named_gaps()) if gaps else ({}, {})
        young: list[Missing] = []
        for gap in gaps:
            # A fork begins with a batch that has none before it on its branch.
            if gap.after.branch != main.get(gap.chain_id, 0):
                continue
            if any(low <= gap.last <= high for low, high in named.get(gap.chain_id, ())):
                continue
            if gap.after.arrival > self._rules.settled:
                young.append(gap)
                continue
            detail = f"the batch before {gap.after.name} is missing, and no finding says so"
            found.append(law.difference(Law.CHAIN, place, detail, [f"offset {gap.after.offset}"]))
        if young:
            self._report.notes.append(f"{place}: {len(young)} gaps are too young to be named")
        return bool(young)


def _size(ranges: Sequence[tuple[int, int]]) -> int:
    return sum(last - first + 1 for first, last in ranges)
