"""Values of the conservation check, and those of its laws that need no store. Pure.

The law: each offset that a log gave out has one of seven fates and what belongs to it, each event
stands once in what readers see, each chain is whole but for gaps that were named, and nobody
(the workers' group least of all) is further than what is durable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from sealtrail.findings import Disposition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sealtrail_audit.conservation.broker import Side

# Examples that a difference names.
MOST_EXAMPLES = 10
LOST = "lost"


class Law(StrEnum):
    """What can be broken."""

    COMMITS = "COMMITS"  # commits follow one another without a hole, and readers see to their end
    ONE_FATE = "ONE_FATE"  # each consumed offset has one disposition
    SUM = "SUM"  # consumed = the sum of the seven dispositions; commits count what is there
    ROWS = "ROWS"  # what belongs to a disposition is stored, and nothing else
    ONCE = "ONCE"  # each event and batch stands once in the views
    DUPLICATE = "DUPLICATE"  # what was dropped as a duplicate is there
    RELEASED = "RELEASED"  # what came back out of quarantine was there
    CHAIN = "CHAIN"  # chains are unbroken but for named gaps
    LINKS = "LINKS"  # edges are the events' references; verified ones name stored parents
    LOST = "LOST"  # what was lost is named by a finding
    AHEAD = "AHEAD"  # no committed offset without a durable row
    UNREAD = "UNREAD"  # what the log still holds is not passed over, and all is read when drained


@dataclass(frozen=True, slots=True)
class Place:
    """A partition of one life of a topic."""

    log_id: str
    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition} of log {self.log_id}"


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that does not hold.

    count: how many offsets, batches or links; examples: the first of them.
    """

    law: Law
    place: Place | None
    detail: str
    count: int = 1
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" {self.place}" if self.place else ""
        some = f": {', '.join(self.examples)}" if self.examples else ""
        more = " ..." if self.count > len(self.examples) > 0 else ""
        return f"{self.law}{where}: {self.detail}{some}{more}"


def difference(
    law: Law, place: Place | None, detail: str, found: Sequence[object], count: int = 0
) -> Difference:
    """A difference with the first of what was found as examples."""
    some = tuple(str(item) for item in found[:MOST_EXAMPLES])
    return Difference(law, place, detail, count or len(found), some)


@dataclass(frozen=True, slots=True)
class Commit:
    """A row of `commits`: offsets first to last, how many messages and events they hold."""

    first: int
    last: int
    lost: bool
    messages: int
    rows: int


@dataclass(slots=True)
class Cover:
    """Commits in a row. end: last offset that is covered without a hole."""

    end: int
    commits: list[Commit] = field(default_factory=list)
    overlaps: list[Commit] = field(default_factory=list)
    holes: list[tuple[int, int]] = field(default_factory=list)

    @property
    def lost(self) -> list[tuple[int, int]]:
        """Ranges that were gone before they were read."""
        return [(c.first, c.last) for c in self.commits if c.lost]


def cover(commits: Iterable[Commit], checked: int) -> Cover:
    """Put commits in a row.

    Args:
        commits: of one log, in any order.
        checked: last offset that an earlier run checked; -1 for none: a log is read from offset 0,
            and what it had dropped before is committed as lost.
    """
    rows = sorted(commits, key=lambda c: (c.first, c.last))
    reached = checked
    found = Cover(reached)
    for row in rows:
        if found.holes:
            break
        if row.first > reached + 1:
            found.holes.append((reached + 1, row.first - 1))
            continue
        if row.first <= reached:
            found.overlaps.append(row)
        found.commits.append(row)
        reached = found.end = max(reached, row.last)
    return found


def windows(found: Cover, start: int, most: int, events: int) -> Iterator[list[Commit]]:
    """Runs of commits of bounded size; commits that overlap stay together.

    Args:
        found: commits in a row.
        start: first offset that is of interest.
        most: offsets in one run, unless one commit alone holds more.
        events: events in one run, likewise.
    """
    part: list[Commit] = []
    end, rows = start - 1, 0
    for commit in found.commits:
        if commit.last < start:
            continue
        apart = commit.first > end
        size = commit.last - (part[0].first if part else commit.first) + 1
        if part and apart and (size > most or rows + commit.rows > events):
            yield part
            part, rows = [], 0
        part.append(commit)
        end, rows = max(end, commit.last), rows + commit.rows
    if part:
        yield part


def without(
    holes: Iterable[tuple[int, int]], lost: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Ranges of offsets less those that were lost."""
    left = list(holes)
    for low, high in lost:
        cut: list[tuple[int, int]] = []
        for first, last in left:
            if first < low:
                cut.append((first, min(last, low - 1)))
            if last > high:
                cut.append((max(first, high + 1), last))
        left = [(f, e) for f, e in cut if f <= e]
    return left


@dataclass(frozen=True, slots=True)
class Batch:
    """A stored batch; arrival in microseconds since 1970."""

    chain_id: bytes
    batch_seq: int
    branch: int
    first_seq: int
    count: int
    statement_hash: bytes
    previous: bytes
    closes: bool
    offset: int
    arrival: int
    here: bool

    @property
    def name(self) -> str:
        """For people."""
        branch = f" of branch {self.branch}" if self.branch else ""
        return f"batch {self.batch_seq}{branch} of chain {self.chain_id.hex()}"


@dataclass(frozen=True, slots=True)
class Missing:
    """Batch numbers of a chain that are not stored; after: the batch that follows them."""

    chain_id: bytes
    last: int
    after: Batch


def joints(place: Place, batches: Sequence[Batch]) -> tuple[list[Difference], list[Missing]]:
    """Hold batches against their neighbours.

    Args:
        place: whose offsets were looked at.
        batches: those of a range of offsets (here), and the ones right before and after them.

    Returns:
        What does not hold, and batches without one before them on their branch.
    """
    by_number: dict[tuple[bytes, int, int], list[Batch]] = {}
    by_hash: dict[tuple[bytes, bytes], list[Batch]] = {}
    for batch in batches:
        by_number.setdefault((batch.chain_id, batch.branch, batch.batch_seq), []).append(batch)
        by_hash.setdefault((batch.chain_id, batch.statement_hash), []).append(batch)
    found: list[Difference] = []
    gaps: list[Missing] = []
    for same in (*by_number.values(), *by_hash.values()):
        if len(same) > 1 and any(b.here for b in same):
            offsets = sorted(b.offset for b in same)
            found.append(difference(Law.ONCE, place, f"{same[0].name} is stored twice", offsets))
    for batch in batches:
        before = by_number.get((batch.chain_id, batch.branch, batch.batch_seq - 1), ())
        if before:
            if batch.here or before[0].here:
                found += _joint(place, before[0], batch)
        elif batch.here and batch.batch_seq:
            gaps.append(Missing(batch.chain_id, batch.batch_seq - 1, batch))
    return list(dict.fromkeys(found)), gaps


def _joint(place: Place, before: Batch, batch: Batch) -> Iterator[Difference]:
    if batch.previous != before.statement_hash:
        detail = f"{batch.name} does not name the one before it"
    elif batch.first_seq != before.first_seq + before.count:
        detail = f"{batch.name} begins at {batch.first_seq}, not where the one before it ends"
    elif before.closes:
        detail = f"{batch.name} follows a batch that closed the chain"
    else:
        return
    yield difference(Law.CHAIN, place, detail, [f"offset {batch.offset}"])


def sums(
    place: Place, commits: Sequence[Commit], fates: Mapping[str, int], rows: int
) -> list[Difference]:
    """What commits count against what is there; overlapping ones count twice and are left out."""
    ends = [c.last for c in commits]
    if any(c.first <= end for c, end in zip(commits[1:], ends, strict=False)):
        return []
    where = f"offsets {commits[0].first} to {commits[-1].last}"
    messages, said = sum(c.messages for c in commits), sum(c.rows for c in commits)
    there = sum(fates.values())
    found = []
    if messages != there:
        detail = f"commits count {messages} messages, {there} have a fate"
        found.append(difference(Law.SUM, place, detail, [where], abs(messages - there)))
    if said != rows:
        detail = f"commits count {said} events, accepted messages hold {rows}"
        found.append(difference(Law.SUM, place, detail, [where], abs(said - rows)))
    return found


def ahead(sides: Iterable[Side], ends: Mapping[Place, int], *, drained: bool) -> list[Difference]:
    """The broker's word against the store's.

    Args:
        sides: partitions of the broker, asked before the store.
        ends: last committed offset of each log, as the store has them.
        drained: whether all that is in the log must be committed.
    """
    found: list[Difference] = []
    for side in sides:
        stored = ends.get(side.place, -1)
        if side.group is not None and side.group > stored + 1:
            detail = f"the group is at {side.group}, the store has committed up to {stored}"
            found.append(Difference(Law.AHEAD, side.place, detail, side.group - stored - 1))
        if side.start > stored + 1:
            detail = (
                f"the log begins at {side.start}, the store ends at {stored}, no finding says so"
            )
            found.append(Difference(Law.LOST, side.place, detail, side.start - stored - 1))
        if drained and side.end > max(stored + 1, side.start):
            detail = f"the log ends at {side.end - 1}, the store has committed up to {stored}"
            found.append(Difference(Law.UNREAD, side.place, detail, side.end - stored - 1))
    return found


@dataclass(slots=True)
class Tally:
    """One partition of a log; its sums go back to offset 0.

    checked: how far an earlier run came (-1: nowhere); end: last committed offset; skipped:
    offsets that hold no message in the log itself.
    """

    place: Place
    checked: int = -1
    end: int = -1
    consumed: int = 0
    skipped: int = 0
    fates: dict[str, int] = field(default_factory=dict)
    events: int = 0
    side: Side | None = None

    def count(self, fates: Mapping[str, int], lost: int) -> None:
        """Add the fates of some offsets."""
        for fate, number in (*fates.items(), (LOST, lost)):
            self.fates[fate] = self.fates.get(fate, 0) + number

    @property
    def behind(self) -> int | None:
        """Messages in the log that are not committed; None for a log that the broker lacks."""
        return None if self.side is None else max(self.side.end - self.end - 1, 0)


@dataclass(slots=True)
class Report:
    """What was counted, and what does not hold."""

    tallies: list[Tally] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    overlaps: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether the law holds."""
        return not self.differences

    @property
    def dispositions(self) -> dict[str, int]:
        """All seven, over all logs."""
        return {str(fate): sum(t.fates.get(fate, 0) for t in self.tallies) for fate in Disposition}

    @property
    def consumed(self) -> int:
        """Offsets that were consumed; holes that the log itself has are none."""
        return sum(t.consumed for t in self.tallies)

    @property
    def events(self) -> int:
        """Events that readers see of them."""
        return sum(t.events for t in self.tallies)
