"""Commits against the messages that they cover. Pure.

A log's commits follow one another without holes, and without overlap but for flushes that two
workers did (each digest then holds for its own range). Each carries a digest over its dispositions:
which of two rows that contradict one another was changed, the digest tells.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sealtrail.findings import Code
from sealtrail_audit.store.compare import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

FLUSH, LOST = 1, 2
TAKEN = ("accepted", "released")
REFUSED = ("quarantined", "parked")


@dataclass(frozen=True, slots=True)
class Commit:
    """A row of `commits`: offsets first to last, how many messages and events they hold."""

    first: int
    last: int
    kind: int
    messages: int
    rows: int
    digest: bytes
    arrival: int


@dataclass(frozen=True, slots=True)
class Disposition:
    """A row of `dispositions`, text as str; the fields are in the order that the digest takes."""

    offset: int
    arrival: int
    time_source: str
    disposition: str
    code: str
    step: int
    detail: str
    digest: bytes
    chain_id: bytes
    batch_seq: int
    branch: int
    events: int
    from_log_id: str = ""
    from_topic: str = ""
    from_partition: int = 0
    from_offset: int = 0

    @property
    def taken(self) -> bool:
        """Whether the message's events are stored."""
        return self.disposition in TAKEN

    def line(self) -> bytes:
        """What the digest of a commit takes of it."""
        values = [getattr(self, name) for name in FIELDS]
        plain = [v.hex() if isinstance(v, bytes) else v for v in values]
        return json.dumps(plain, separators=(",", ":")).encode() + b"\n"


FIELDS = tuple(Disposition.__dataclass_fields__)


def digest(dispositions: Iterable[Disposition]) -> bytes:
    """SHA-256 over dispositions in the order of their offsets (docs/sql.md, "Commits")."""
    total = sha256()
    for item in dispositions:
        total.update(item.line())
    return total.digest()


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets first to last and their commit; None where it is missing."""

    first: int
    last: int
    commit: Commit | None


def layout(
    place: Mapping[str, Any], commits: Sequence[Commit], fits: Callable[[Commit, int, int], bool]
) -> tuple[list[Span], list[Finding]]:
    """Put a log's commits in a row and name what breaks it.

    Args:
        place: log_id, topic and partition.
        commits: stored rows, copies included.
        fits: whether a commit's digest is that of the messages in a range of offsets.

    Returns:
        Spans without holes or overlap, and the findings.
    """
    laying = _Laying(place, fits)
    rows = laying.one_each(sorted(set(commits), key=lambda c: (c.first, c.last)))
    for row in rows:
        laying.reach(row.first - 1)
        before = laying.spans[-1] if laying.spans else None
        if before is None or row.first == before.last + 1:
            laying.append(row)
        elif row.first > before.last + 1:
            laying.hole(before, row)
        else:
            laying.overlap(before, row)
    laying.reach(None)
    return laying.spans, laying.findings


def _named(place: Mapping[str, Any], row: Commit) -> dict[str, Any]:
    return {**place, "first_offset": row.first, "last_offset": row.last}


def differing(key: Mapping[str, Any], stored: Commit, computed: Commit) -> Finding:
    """The first column in which a commit is not as computed."""
    names = ("kind", "messages", "rows", "digest", "arrival", "first", "last")
    name = next(n for n in names if getattr(stored, n) != getattr(computed, n))
    column = {"first": "first_offset", "last": "last_offset"}.get(name, name)
    values = getattr(stored, name), getattr(computed, name)
    return Finding(Code.ROW_CHANGED, "commits", key, "", column, *values)


class _Laying:
    """Spans as they are laid, and what is found on the way."""

    def __init__(self, place: Mapping[str, Any], fits: Callable[[Commit, int, int], bool]) -> None:
        self.place = place
        self.fits = fits
        self.spans: list[Span] = []
        self.findings: list[Finding] = []
        # The last offset that commits cover which overlap the one before them.
        self._covered = -1

    def append(self, row: Commit) -> None:
        """A commit that follows the one before."""
        self.spans.append(Span(row.first, row.last, row))

    def one_each(self, rows: Sequence[Commit]) -> list[Commit]:
        """Of rows with one key the one that fits is kept; the others are changes of it."""
        kept: list[Commit] = []
        for row in rows:
            if not kept or (kept[-1].first, kept[-1].last) != (row.first, row.last):
                kept.append(row)
                continue
            good, bad = kept[-1], row
            if self._as_it_is(row) and not self._as_it_is(good):
                good, bad = bad, good
            kept[-1] = good
            self.findings.append(differing(_named(self.place, row), bad, good))
        return kept

    def reach(self, until: int | None) -> None:
        """What an overlapping commit covers beyond the others, up to an offset: it is looked at."""
        if not self.spans:
            return
        low = self.spans[-1].last + 1
        last = self._covered if until is None else min(self._covered, until)
        if last >= low:
            self.spans.append(Span(low, last, None))

    def hole(self, before: Span, row: Commit) -> None:
        """Offsets that no commit covers: an end was moved, or a row is gone."""
        low, high = before.last + 1, row.first - 1
        moved = before.commit
        if moved is not None and not self._as_it_is(moved) and self.fits(moved, moved.first, high):
            self.spans[-1] = Span(before.first, high, self._moved(moved, last=high))
        elif not self._as_it_is(row) and self.fits(row, low, row.last):
            row = self._moved(row, first=low)
        else:
            key = {**self.place, "first_offset": low, "last_offset": high}
            detail = "later offsets are committed, these are not"
            self.findings.append(Finding(Code.ROW_MISSING, "commits", key, detail))
            self.spans.append(Span(low, high, None))
        self.append(row)

    def overlap(self, before: Span, row: Commit) -> None:
        """Offsets that two commits cover: an end was moved, or one row was added."""
        earlier = before.commit
        cut, low = row.first - 1, before.last + 1
        if earlier is not None and self._as_it_is(row) and not self._as_it_is(earlier):
            if before.first <= cut and self.fits(earlier, before.first, cut):
                self.spans[-1] = Span(before.first, cut, self._moved(earlier, last=cut))
            else:
                self._added(earlier)
                self.spans.pop()
            self.append(row)
        elif low <= row.last and not self._as_it_is(row) and self.fits(row, low, row.last):
            self.append(self._moved(row, first=low))
        else:
            # A worker that was taken for dead may do a flush again with other boundaries: its
            # commit is as true as the one that it overlaps, and shows nothing more.
            if not self._as_it_is(row):
                self._added(row)
            self._covered = max(self._covered, row.last)

    def _moved(self, row: Commit, *, first: int | None = None, last: int | None = None) -> Commit:
        first = row.first if first is None else first
        must = replace(row, first=first, last=row.last if last is None else last)
        self.findings.append(differing(_named(self.place, row), row, must))
        return must

    def _added(self, row: Commit) -> None:
        stored = {"messages": row.messages, "rows": row.rows}
        detail = "its offsets are covered by other commits"
        key = _named(self.place, row)
        self.findings.append(Finding(Code.ROW_ADDED, "commits", key, detail, stored=stored))

    def _as_it_is(self, row: Commit) -> bool:
        return self.fits(row, row.first, row.last)


def computed(span: Span, dispositions: Sequence[Disposition]) -> Commit:
    """The commit that a span must have, from its dispositions."""
    # A flush holds at least one message; offsets that were lost hold none.
    kind = FLUSH if dispositions else LOST
    arrival = max((d.arrival for d in dispositions), default=0)
    if span.commit is not None and not dispositions:
        # Nothing says when offsets without messages were given up.
        arrival = span.commit.arrival
    rows = sum(d.events for d in dispositions if d.taken)
    last = dispositions[-1].offset if dispositions else span.last
    return Commit(span.first, last, kind, len(dispositions), rows, digest(dispositions), arrival)
