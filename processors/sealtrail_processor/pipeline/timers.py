"""Findings that only time can make: GAP after settling, STALLED_CHAIN. Pure but for memory.

Which "now" counts: while the worker is behind, the arrival of what it committed last, for what
fills a gap may already be in the log; once it has caught up, the clock. A chain is not called
stalled while the worker lags, nor before the worker has watched for as long itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealtrail.findings import Code, Disposition
from sealtrail_processor.judging.model import Finding, Flush, Log, finding_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sealtrail.chain import ChainState
    from sealtrail_processor.pipeline.partition import Partition
    from sealtrail_processor.settings import WorkerSettings

Found = tuple[int, Finding, str]


class Timers:
    """Remembers heartbeats and what was told already.

    Args:
        settings: settling time, heartbeats that may be missed.
        told: ids of findings that are on record, so that a restart does not alert anew.
    """

    def __init__(self, settings: WorkerSettings, told: Iterable[bytes] = ()) -> None:
        self._settle_us = round(settings.gap_settle_s * 1e6)
        self._beats = settings.stalled_heartbeats
        self._told = set(told)
        # Chain -> (arrival, batch number) of its latest heartbeat.
        self._heard: dict[bytes, tuple[int, int]] = {}
        self._watched_since: dict[int, int] = {}

    def recall(self, told: Iterable[bytes]) -> None:
        """Take in ids of findings that are on record."""
        self._told.update(told)

    def forget(self, partition: int) -> None:
        """A partition was assigned anew: its chains are watched from now on."""
        self._watched_since.pop(partition, None)

    def look_away(self) -> None:
        """The broker cannot be asked: all chains are watched from the next look on."""
        self._watched_since.clear()

    def committed(self, flush: Flush) -> None:
        """Take in the heartbeats of a flush."""
        for judged in flush.judged:
            beat = judged.heartbeat
            if beat is not None and judged.disposition is Disposition.HEARTBEAT:
                self._heard[beat.chain_id] = (judged.arrival, beat.batch_seq)

    def check(
        self, partitions: Iterable[Partition], now: int, *, lagging: bool
    ) -> Mapping[Log, list[Found]]:
        """What is to be reported now, each finding once; confirm with `written`.

        Args:
            partitions: those that are assigned.
            now: microseconds since 1970.
            lagging: whether messages wait that could change the picture.
        """
        found: dict[Log, list[Found]] = {}
        for partition in partitions:
            # Chains outlive a broker's log: so do findings about them.
            log = Log("", partition.log.topic, partition.log.partition)
            since = self._watched_since.setdefault(log.partition, now)
            at = partition.last_arrival if lagging else now
            for state in partition.chains.by_id.values():
                for finding in self._chain(state, at, None if lagging else max(since, 0)):
                    if finding_id(log, 0, finding) not in self._told:
                        entry = (0, finding, state.identity.tenant)
                        found.setdefault(log, []).append(entry)
        return found

    def written(self, found: Mapping[Log, Iterable[Found]]) -> None:
        """These findings are durable."""
        for log, entries in found.items():
            self._told.update(finding_id(log, offset, finding) for offset, finding, _ in entries)

    def _chain(self, state: ChainState, at: int, since: int | None) -> Iterator[Finding]:
        heard, beat_batch = self._heard.get(state.chain_id, (0, -1))
        if state.beyond:
            yield from self._gaps(state, at)
        # A heartbeat names the last batch: what it names and we lack is missing at the end.
        last = state.beyond[-1].last_batch if state.beyond else state.next_batch - 1
        if beat_batch > last and at - heard >= self._settle_us:
            yield _gap(state, last + 1, beat_batch, at - heard)
        # It may be closed beyond a gap: the mark has not come there.
        closed = state.beyond[-1].closes if state.beyond else state.closed
        if since is None or closed or state.continued is not None or not state.heartbeat_s:
            return
        silent = at - max(state.last_arrival, heard, since)
        if silent > self._beats * state.heartbeat_s * 1e6:
            detail = f"no batch or heartbeat for {silent / 1e6:.0f} s, and it is not closed"
            yield Finding(
                Code.STALLED_CHAIN, detail, state.chain_id, state.next_batch, estimate_us=silent
            )

    def _gaps(self, state: ChainState, at: int) -> Iterator[Finding]:
        for (first, last), run in zip(state.gaps(), state.beyond, strict=True):
            if at - run.arrival >= self._settle_us:
                yield _gap(state, first, last, at - run.arrival)


def _gap(state: ChainState, first: int, last: int, open_us: int) -> Finding:
    who = f"{state.identity.producer}/{state.identity.instance}"
    # The view open_findings reads the range from these words.
    detail = f"batches {first} to {last} are missing for {open_us / 1e6:.0f} s: {who}"
    return Finding(Code.GAP, detail, state.chain_id, first, estimate_us=open_us)
