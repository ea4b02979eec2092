"""The messages of one commit: what must have been there, so that the commit's digest holds. Pure.

When the digest holds with the dispositions as stored, they are taken for true. When it does not,
what can be derived from other rows is put in their place, then single rows are left out or put
right, until it holds: the difference names the row. What no attempt explains is a hole (messages
are missing) or a change of the commit itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sealtrail.findings import Code
from sealtrail_audit.store import commits, messages
from sealtrail_audit.store.chains import Hole
from sealtrail_audit.store.columns import DISPOSITIONS
from sealtrail_audit.store.compare import Finding, changed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sealtrail_audit.store.commits import Disposition, Span
    from sealtrail_audit.store.messages import Judge, Message, Reading

# Offsets without a message that are named one by one.
_MOST_OFFSETS = 10_000


@dataclass(slots=True)
class Resolved:
    """A span after its messages were read: what is wrong, and the hole it leaves."""

    readings: list[Reading]
    findings: list[Finding] = field(default_factory=list)
    hole: Hole | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """Where a span belongs. log: its number in the audit; place: log_id, topic, partition.

    accepted: digest of the accepted batch with a chain id and number, None if there is none.
    repeated: digests that stand in more than one commit of the log.
    """

    log: int
    place: Mapping[str, Any]
    judge: Judge
    accepted: Callable[[bytes, int], bytes | None]
    repeated: frozenset[bytes] = frozenset()


def resolve(context: Context, span: Span, found: Sequence[Message]) -> Resolved:
    """Read all messages of a span and hold them against its commit."""
    stored = [m.dispositions[0] for m in found if m.dispositions]
    once = all(len(m.dispositions) <= 1 for m in found)
    sure = span.commit is not None and once and commits.digest(stored) == span.commit.digest
    readings = [messages.read(context.judge, context.place, m, sure=sure) for m in found]
    resolved = Resolved(readings)
    if span.commit is not None and not sure:
        _repair(context, span, resolved)
    if span.commit is not None and resolved.hole is None:
        must = commits.computed(span, _all(readings))
        if must != span.commit:
            key = {**context.place, "first_offset": span.first, "last_offset": span.last}
            resolved.findings.append(commits.differing(key, span.commit, must))
    for reading in readings:
        resolved.findings += disposition_findings(context.place, reading)
    return resolved


def _all(readings: Sequence[Reading]) -> list[Disposition]:
    return [r.disposition for r in readings if r.disposition is not None]


def _repair(context: Context, span: Span, resolved: Resolved) -> None:
    """Change readings until the commit's digest holds, or say what is missing."""
    commit = span.commit
    readings = resolved.readings
    if commit is None or commits.digest(_all(readings)) == commit.digest:
        return
    for index, alternative in _alternatives(context, readings):
        kept = readings[index].disposition
        readings[index].disposition = alternative
        if commits.digest(_all(readings)) == commit.digest:
            return
        readings[index].disposition = kept
    must = _all(readings)
    missing = commit.messages - len(must)
    if missing > 0:
        there = {d.offset for d in must}
        last = min(span.last, span.first + _MOST_OFFSETS)
        free = [o for o in range(span.first, last + 1) if o not in there]
        events = commit.rows - sum(d.events for d in must if d.taken)
        odd = commit.digest in context.repeated or missing != span.last - span.first + 1
        added = not must and odd
        resolved.hole = Hole(context.log, span.first, span.last, missing, events, free, added)


def _alternatives(
    context: Context, readings: Sequence[Reading]
) -> Iterator[tuple[int, Disposition | None]]:
    """Single changes that an attacker's single change would ask for, cheapest first."""
    for index, reading in enumerate(readings):
        for other in reading.message.dispositions:
            if other != reading.disposition:
                yield index, other
    for index, reading in enumerate(readings):
        if reading.disposition is not None:
            yield index, None
    for index, reading in enumerate(readings):
        must = reading.disposition
        if must is None or must.disposition != "duplicate":
            continue
        digest = context.accepted(must.chain_id, must.batch_seq)
        if digest is not None and digest != must.digest:
            yield index, replace(must, digest=digest)


def disposition_findings(place: Mapping[str, Any], reading: Reading) -> Iterator[Finding]:
    """What is wrong with the row of one message in dispositions."""
    must, message = reading.disposition, reading.message
    key = {**place, "offset": message.offset}
    names = list(commits.FIELDS)
    if must is None:
        for row in message.dispositions:
            detail = f"its commit counts no {row.disposition} message there"
            yield Finding(Code.ROW_ADDED, DISPOSITIONS.name, key, detail, stored=row.disposition)
        return
    values = [getattr(must, name) for name in names]
    others = [row for row in message.dispositions if row != must]
    for row in others:
        stored = [getattr(row, name) for name in names]
        yield changed(DISPOSITIONS, key, names, stored, values)
    if not message.dispositions:
        yield Finding(Code.ROW_MISSING, DISPOSITIONS.name, key, computed=must.disposition)
