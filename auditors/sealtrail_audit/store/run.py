"""Audits a store: chunk by chunk in memory of bounded size, then the chains as a whole.

Per partition of a log: commits are put in a row; then, some commits at a time, all rows of their
offsets are read, payloads verified, and each row compared with what the payload says. Of each batch
a short link stays in memory for the walk along the chains (some 300 bytes a batch).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sealtrail.findings import Code
from sealtrail_audit.store import chains, commits, rows, spans
from sealtrail_audit.store.commits import Span
from sealtrail_audit.store.compare import Finding
from sealtrail_audit.store.messages import Judge, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sealtrail_audit.store.commits import Commit
    from sealtrail_audit.store.load import Loader, Place
    from sealtrail_audit.trust import Trust

# Per (log_id, topic, partition): the last offset that readers see, and that of the commits.
Ends = dict[tuple[str, str, int], tuple[int, int]]
# Findings that are kept with all their values; beyond it they are counted.
MOST_FINDINGS = 10_000
# Messages in one chunk, however few events they hold.
_CHUNK_MESSAGES = 4_096


@dataclass(slots=True)
class Report:
    """What an audit saw and found."""

    events: int = 0
    batches: int = 0
    messages: int = 0
    chains: int = 0
    unchecked: int = 0
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add(self, findings: Iterable[Finding]) -> None:
        """Count findings, and keep them while there is room."""
        for finding in findings:
            self.counts[str(finding.code)] += 1
            if len(self.findings) < MOST_FINDINGS:
                self.findings.append(finding)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.counts


class StoreAudit:
    """One audit.

    Args:
        loader: asks the store.
        trust: keys, schemas and the pinned root.
        environment: the environment that batches must name.
        chunk_events: events in memory at a time.
        settled: what arrived after this (microseconds since 1970) may still be on its way.
    """

    def __init__(
        self, loader: Loader, trust: Trust, environment: str, *, chunk_events: int, settled: int
    ) -> None:
        self._loader = loader
        self._judge = Judge(trust.directory, environment, trust.tenants)
        self._chunk_events = chunk_events
        self._settled = settled
        self._places: list[Place] = []
        self._links: dict[bytes, list[chains.Link]] = {}
        self._holes: list[chains.Hole] = []
        self._report = Report()
        for refused in trust.refused:
            text = f"key record {refused.record_key} does not count: {refused.detail}"
            self._report.notes.append(text)

    def run(self, begin: Callable[[int], Callable[[float], None]]) -> Report:
        """Audit everything that is committed.

        Args:
            begin: takes the number of messages, gives what advances a progress bar by some.
        """
        ends = self._loader.ends()
        self._places = self._loader.logs()
        stored = [self._loader.commits(place) for place in self._places]
        advance = begin(sum(c.messages for found in stored for c in set(found)))
        for log, found in enumerate(stored):
            self._log(log, found, advance)
        self._uncommitted(stored, ends)
        self._chains()
        return self._report

    def _log(self, log: int, found: Sequence[Commit], advance: Callable[[float], None]) -> None:
        place = self._places[log]

        def fits(commit: Commit, first: int, last: int) -> bool:
            there = self._loader.dispositions(place, first, last)
            return (len(there), commits.digest(there)) == (commit.messages, commit.digest)

        laid, findings = commits.layout(place, found, fits)
        self._report.add(findings)
        laid = self._below(place, laid) + laid
        uses = Counter(c.digest for c in set(found))
        repeated = frozenset(digest for digest, count in uses.items() if count > 1)
        context = spans.Context(log, place, self._judge, self._loader.accepted_digest, repeated)
        low = 0
        for chunk in self._chunks(laid):
            # The first chunk begins at 0: below a log's first commit nothing may stand.
            self._chunk(context, chunk, low)
            low = chunk[-1].last + 1
            advance(sum(s.commit.messages for s in chunk if s.commit is not None))

    def _below(self, place: Place, laid: Sequence[Span]) -> list[Span]:
        """Messages below a log's first commit: their commit is gone."""
        first = laid[0].first
        below = self._loader.dispositions(place, 0, first - 1) if first else []
        if not below:
            return []
        span = Span(below[0].offset, first - 1, None)
        key = {**place, "first_offset": span.first, "last_offset": span.last}
        detail = "later offsets are committed, these are not"
        self._report.add([Finding(Code.ROW_MISSING, "commits", key, detail)])
        return [span]

    def _chunks(self, laid: Sequence[Span]) -> Iterator[list[Span]]:
        chunk: list[Span] = []
        events = count = 0
        for span in laid:
            size = span.commit.rows if span.commit is not None else 0
            messages = min(span.last - span.first + 1, _CHUNK_MESSAGES)
            if chunk and (events + size > self._chunk_events or count + messages > _CHUNK_MESSAGES):
                yield chunk
                chunk, events, count = [], 0, 0
            chunk.append(span)
            events, count = events + size, count + messages
        if chunk:
            yield chunk

    def _chunk(self, context: spans.Context, chunk: Sequence[Span], low: int) -> None:
        found, events = self._loader.chunk(context.place, low, chunk[-1].last)
        readings: list[Reading] = []
        at = sum(1 for message in found if message.offset < chunk[0].first)
        # No commit counts these, and they have no disposition: whatever stands there was added.
        readings.extend(Reading(message) for message in found[:at])
        for span in chunk:
            until = at
            while until < len(found) and found[until].offset <= span.last:
                until += 1
            resolved = spans.resolve(context, span, found[at:until])
            self._report.add(resolved.findings)
            readings += resolved.readings
            if resolved.hole is not None:
                self._holes.append(resolved.hole)
            at = until
        for reading in readings:
            self._report.add(rows.of_message(context.place, reading))
            self._link(context.log, reading)
        verified, accounted = rows.covered(readings)
        for reading in verified:
            self._report.add(events.check(context.place, reading))
        self._report.add(events.added(context.place, accounted))
        self._count(readings, verified)

    def _count(self, readings: Sequence[Reading], verified: Sequence[Reading]) -> None:
        self._report.messages += len(readings)
        self._report.batches += len(verified)
        for reading in readings:
            must = reading.disposition
            if must is not None and must.taken:
                if reading.batch is not None:
                    self._report.events += must.events
                else:
                    self._report.unchecked += must.events

    def _link(self, log: int, reading: Reading) -> None:
        """Remember a batch for the walk along its chain."""
        must = reading.disposition
        if must is None or not must.taken:
            return
        chain_id, number = must.chain_id, must.batch_seq
        fields: tuple[int, int, bytes, bytes, bool] = (0, must.events, b"", b"", False)
        if reading.batch is not None:
            statement = reading.batch.statement
            chain_id, number = statement.chain_id, statement.batch_seq
            fields = (
                statement.first_seq,
                statement.count,
                reading.batch.statement_hash,
                statement.previous,
                statement.closes,
            )
        sure = reading.batch is not None
        where = (log, must.offset, must.arrival)
        link = chains.Link(number, must.branch, *fields, *where, sure)
        self._links.setdefault(chain_id, []).append(link)

    def _uncommitted(self, stored: Sequence[Sequence[Commit]], ends: Ends) -> None:
        """Rows above the committed offset are shown to nobody; old ones should not be there."""
        newest: dict[tuple[str, int], int] = {}
        for place, found in zip(self._places, stored, strict=True):
            part = (place["topic"], place["partition"])
            newest[part] = max([newest.get(part, 0), *(c.arrival for c in found)])
        later = self._loader.ends()
        for place, found in zip(self._places, stored, strict=True):
            end = max(c.last for c in found)
            count, arrival = self._loader.leftovers(place, end)
            named = (place["log_id"], place["topic"], place["partition"])
            shown = ends[named][0] if ends.get(named) == later.get(named) and named in ends else end
            latest = max(c.arrival for c in found)
            live = newest[place["topic"], place["partition"]] == latest
            if count and (shown > end or (live and arrival <= self._settled)):
                key = {**place, "first_offset": end + 1}
                detail = f"{count} messages are stored, and no commit counts them"
                self._report.add([Finding(Code.ROW_MISSING, "commits", key, detail)])
            elif count:
                name = f"{place['topic']}/{place['partition']} of log {place['log_id']}"
                self._report.notes.append(f"{count} messages above offset {end} of {name} wait")
            elif shown == max((c.last for c in found if c.last < end), default=-1):
                name = f"{place['topic']}/{place['partition']} of log {place['log_id']}"
                text = f"the last commit of {name} is not shown: the store was killed within it"
                self._report.notes.append(f"{text}, and the worker mends it when it starts")
            elif shown != end and not self._has_commit_findings(place):
                detail = "readers see another part of the log than is committed"
                self._report.add(
                    [
                        Finding(
                            Code.ROW_CHANGED,
                            "commit_ends",
                            place,
                            detail,
                            "last_offset",
                            shown,
                            end,
                        )
                    ]
                )

    def _has_commit_findings(self, place: Place) -> bool:
        return any(
            f.table == "commits" and all(f.key.get(k) == v for k, v in place.items())
            for f in self._report.findings
        )

    def _chains(self) -> None:
        def place(log: int) -> Place:
            return self._places[log]

        gaps: list[chains.Gap] = []
        for chain_id, links in self._links.items():
            findings, missing = chains.check(place, chain_id, links)
            self._report.add(findings)
            gaps += missing
        self._report.chains = len(self._links)
        known = self._loader.known_gaps() if gaps else []
        findings, honest = chains.explain(place, gaps, self._holes, known, self._settled)
        self._report.add(findings)
        for gap in honest:
            self._report.notes.append(
                f"GAP: batches {gap.first} to {gap.last} of chain {gap.chain_id.hex()}"
                " never arrived, as the pipeline found"
            )
        if self._report.unchecked:
            text = "events could not be compared: their signed bytes are missing or do not hold"
            self._report.notes.append(f"{self._report.unchecked} {text}")
