"""Batches against their chains: nothing missing, nothing twice, each naming the one before. Pure.

What a chain shows that the rows alone do not: a batch that was removed everywhere leaves a hole in
its chain. (The last batches of a chain leave none: until there is a transparency log, only the
offsets of their log can show that they are gone.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sealtrail.findings import Code
from sealtrail_audit.store.compare import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# A forged batch number can make a gap of any size: so many of its batches are named.
MOST_NAMED = 1_000


@dataclass(frozen=True, slots=True)
class Link:
    """A stored batch. sure: its bytes were verified; else only its row in batches is known.

    log: number of its log and partition in the audit; arrival: microseconds since 1970.
    """

    batch_seq: int
    branch: int
    first_seq: int
    count: int
    statement_hash: bytes
    previous: bytes
    closes: bool
    log: int
    offset: int
    arrival: int
    sure: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """Batch numbers first to last of a chain that the store does not have."""

    chain_id: bytes
    first: int
    last: int
    before: Link | None
    after: Link


@dataclass(slots=True)
class Hole:
    """Messages that a commit counts and the store does not have.

    offsets: where they may have stood; events: how many events they held; added: the commit looks
    like one that was put there (a copy of another's digest, or fewer messages than offsets).
    """

    log: int
    first: int
    last: int
    messages: int
    events: int
    offsets: list[int]
    added: bool = False


def check(
    place: Callable[[int], Mapping[str, Any]], chain_id: bytes, links: Sequence[Link]
) -> tuple[list[Finding], list[Gap]]:
    """Walk one chain.

    Args:
        place: the coordinates (without offset) of a log's number.
        chain_id: the chain.
        links: its stored batches, in any order.
    """
    findings: list[Finding] = []
    gaps: list[Gap] = []
    main: dict[int, Link] = {}
    for link in sorted(links, key=lambda k: (k.batch_seq, k.branch, k.arrival, k.log, k.offset)):
        if link.branch:
            continue
        first = main.setdefault(link.batch_seq, link)
        if first is not link:
            key = {**place(link.log), "offset": link.offset, "chain_id": chain_id}
            detail = f"batch {link.batch_seq} was accepted already at offset {first.offset}"
            findings.append(Finding(Code.ROW_ADDED, "payloads", key, detail))
    before: Link | None = None
    for number in sorted(main):
        link = main[number]
        expected = 0 if before is None else before.batch_seq + 1
        if number > expected:
            gaps.append(Gap(chain_id, expected, number - 1, before, link))
        elif before is not None and before.sure and link.sure:
            findings += _joint(place, chain_id, before, link)
        before = link
    return findings, gaps


def _joint(
    place: Callable[[int], Mapping[str, Any]], chain_id: bytes, before: Link, link: Link
) -> Iterator[Finding]:
    key = {
        "chain_id": chain_id,
        "batch_seq": link.batch_seq,
        **place(link.log),
        "offset": link.offset,
    }
    if link.previous != before.statement_hash:
        detail = f"it does not follow batch {before.batch_seq}, whose signed statement is another"
        yield Finding(
            Code.CHAIN_BROKEN, "", key, detail, "previous", before.statement_hash, link.previous
        )
    elif link.first_seq != before.first_seq + before.count:
        follows = before.first_seq + before.count
        detail = f"it does not follow batch {before.batch_seq}"
        yield Finding(Code.CHAIN_BROKEN, "", key, detail, "first_seq", link.first_seq, follows)
    elif before.closes:
        detail = f"batch {before.batch_seq} closed the chain"
        yield Finding(Code.CHAIN_BROKEN, "", key, detail)


@dataclass(frozen=True, slots=True)
class KnownGap:
    """A GAP finding of the pipeline: about a chain, at a batch number."""

    chain_id: bytes
    batch_seq: int


def explain(
    place: Callable[[int], Mapping[str, Any]],
    gaps: Sequence[Gap],
    holes: Sequence[Hole],
    known: Sequence[KnownGap],
    settled: int,
) -> tuple[list[Finding], list[Gap]]:
    """Tell batches that were removed from those that never arrived.

    A gap is honest when the pipeline found it, too, and no commit around it counts a message that
    is gone. One that just appeared may not have been reported yet.

    Args:
        place: the coordinates (without offset) of a log's number.
        gaps: batch numbers that are missing.
        holes: messages that are missing; what a gap explains is taken off.
        known: GAP findings of the pipeline.
        settled: gaps whose later end arrived after this are too young to judge, microseconds.

    Returns:
        BATCH_MISSING findings, and the honest gaps.
    """
    reported: dict[bytes, list[int]] = {}
    for found in known:
        reported.setdefault(found.chain_id, []).append(found.batch_seq)
    findings: list[Finding] = []
    honest: list[Gap] = []
    for gap in gaps:
        near = [hole for hole in holes if hole.messages > 0 and _near(gap, hole)]
        at = reported.get(gap.chain_id, ())
        was_found = any(gap.first <= number <= gap.after.batch_seq for number in at)
        if not near and (was_found or gap.after.arrival > settled):
            honest.append(gap)
            continue
        last = min(gap.last, gap.first + MOST_NAMED - 1)
        numbers = range(gap.first, last + 1)
        findings.extend(_missing(place, gap, number, near) for number in numbers)
    findings.extend(_unexplained(place, hole) for hole in holes if hole.messages > 0)
    return findings, honest


def _near(gap: Gap, hole: Hole) -> bool:
    """Whether a hole lies between the two ends of a gap, as far as offsets of one log tell."""
    if hole.log == gap.after.log and hole.first > gap.after.offset:
        return False
    if gap.before is not None and hole.log == gap.before.log and hole.last < gap.before.offset:
        return False
    logs = {gap.after.log} | ({gap.before.log} if gap.before is not None else set())
    return hole.log in logs


def _missing(
    place: Callable[[int], Mapping[str, Any]], gap: Gap, number: int, near: Sequence[Hole]
) -> Finding:
    hole = next((h for h in near if h.messages > 0), None)
    key: dict[str, Any] = {"chain_id": gap.chain_id, "batch_seq": number}
    detail = f"the chain goes on with batch {gap.after.batch_seq}"
    if hole is None:
        detail += "; no finding of the pipeline says that it never arrived"
    else:
        hole.messages -= 1
        key |= place(hole.log)
        low = gap.before.offset if gap.before is not None and gap.before.log == hole.log else -1
        high = gap.after.offset if gap.after.log == hole.log else hole.last + 1
        may = [offset for offset in hole.offsets if low < offset < high]
        if len(may) == 1:
            key["offset"] = may[0]
            hole.offsets.remove(may[0])
        detail += f"; the commit of offsets {hole.first} to {hole.last} counts it"
    return Finding(Code.BATCH_MISSING, "payloads", key, detail)


def _unexplained(place: Callable[[int], Mapping[str, Any]], hole: Hole) -> Finding:
    key = {**place(hole.log), "first_offset": hole.first, "last_offset": hole.last}
    if len(hole.offsets) == 1:
        key["offset"] = hole.offsets[0]
    detail = f"their commit counts {hole.messages} more messages than are stored"
    if hole.added:
        return Finding(Code.ROW_ADDED, "commits", key, "nothing is stored of what it counts")
    if hole.events > 0:
        detail += f", with {hole.events} events"
        return Finding(Code.BATCH_MISSING, "payloads", key, detail)
    return Finding(Code.ROW_MISSING, "dispositions", key, detail)
