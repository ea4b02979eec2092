"""Findings that only time can make: GAP after settling, STALLED_CHAIN. Pure but for memory.

Which "now" counts: while the worker is behind, the arrival of what it committed last, for what
fills a gap may already be in the log; once it has caught up, the clock. A chain is not called
stalled while the worker lags, nor before the worker has watched for as long itself.

What is remembered of a chain that is not held any more (`holding`) is forgotten with it. Whether a
finding is on record is asked of the store before it is told (`upkeep`), so that it is told once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealtrail.findings import Code, Disposition
from sealtrail_processor.judging.model import Finding, Flush, Log

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sealtrail.chain import ChainState
    from sealtrail_processor.pipeline.partition import Partition
    from sealtrail_processor.settings import WorkerSettings

Found = tuple[int, Finding, str]
# Heartbeats of chains that are not held: the batch may come later. Those heard last are kept.
STRANGERS = 20_000
# What was told of a chain and is over, gaps that were filled, is forgotten when it is more.
OVER = 64


class Timers:
    """Remembers heartbeats and what was told already.

    Args:
        settings: settling time, heartbeats that may be missed.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settle_us = round(settings.gap_settle_s * 1e6)
        self._beats = settings.stalled_heartbeats
        # (Partition, chain) -> what was told of it: code and batch number.
        self._told: dict[tuple[int, bytes], set[tuple[Code, int]]] = {}
        # (Partition, chain) -> (arrival, batch number) of its latest heartbeat.
        self._heard: dict[tuple[int, bytes], tuple[int, int]] = {}
        self._watched_since: dict[int, int] = {}

    def forget(self, partition: int) -> None:
        """A partition was assigned anew: its chains are watched from now on."""
        self._watched_since.pop(partition, None)

    def evicted(self, partition: int, chain_ids: Iterable[bytes]) -> None:
        """Chains of a partition are not held any more."""
        for chain_id in chain_ids:
            self._told.pop((partition, chain_id), None)
            self._heard.pop((partition, chain_id), None)

    def look_away(self) -> None:
        """The broker cannot be asked: all chains are watched from the next look on."""
        self._watched_since.clear()

    def committed(self, flush: Flush) -> None:
        """Take in the heartbeats of a flush."""
        for judged in flush.judged:
            beat = judged.heartbeat
            if beat is not None and judged.disposition is Disposition.HEARTBEAT:
                at = (flush.log.partition, beat.chain_id)
                # The latest stand last.
                self._heard.pop(at, None)
                self._heard[at] = (judged.arrival, beat.batch_seq)

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
                told = self._still_told((log.partition, state.chain_id), state)
                for finding in self._chain(log, state, at, None if lagging else max(since, 0)):
                    if (finding.code, finding.batch_seq) not in told:
                        entry = (0, finding, state.identity.tenant)
                        found.setdefault(log, []).append(entry)
        return found

    def _still_told(self, at: tuple[int, bytes], state: ChainState) -> set[tuple[Code, int]]:
        """What was told of a chain; not for ever of gaps that anybody can open and fill."""
        told = self._told.get(at, set())
        if len(told) > len(state.beyond) + OVER:
            open_ = {(Code.GAP, first) for first, _ in state.gaps()}
            told &= open_ | {(Code.GAP, _last(state) + 1), (Code.STALLED_CHAIN, state.next_batch)}
        return told

    def pending(self, partition: int, state: ChainState) -> bool:
        """Whether time may still find something about a chain that was not told.

        A tail that a heartbeat names and that never came may come yet, in parts: the heartbeat is
        remembered for as long as the chain is held.
        """
        at = (partition, state.chain_id)
        if self._heard.get(at, (0, -1))[1] > _last(state):
            return True
        told = self._told.get(at, ())
        if any((Code.GAP, first) not in told for first, _ in state.gaps()):
            return True
        return _may_stall(state) and (Code.STALLED_CHAIN, state.next_batch) not in told

    def trim(self, partitions: Iterable[Partition]) -> None:
        """Forget what is remembered of chains that are not held, but for the latest."""
        held = {p.log.partition: p.chains.by_id for p in partitions}
        most = STRANGERS + sum(map(len, held.values()))
        remembered: tuple[dict[tuple[int, bytes], Any], ...] = (self._heard, self._told)
        for memory in remembered:
            if len(memory) > most:
                # Lanes take in heartbeats meanwhile.
                strangers = [at for at in list(memory) if at[1] not in held.get(at[0], ())]
                for at in strangers[: -STRANGERS // 2]:
                    memory.pop(at, None)

    def written(self, found: Mapping[Log, Iterable[Found]]) -> None:
        """These findings are durable."""
        for log, entries in found.items():
            for _, finding, _ in entries:
                told = self._told.setdefault((log.partition, finding.chain_id), set())
                told.add((finding.code, finding.batch_seq))

    def _chain(self, log: Log, state: ChainState, at: int, since: int | None) -> Iterator[Finding]:
        heard, beat_batch = self._heard.get((log.partition, state.chain_id), (0, -1))
        if state.beyond:
            yield from self._gaps(state, at)
        # A heartbeat names the last batch: what it names and we lack is missing at the end.
        last = _last(state)
        if beat_batch > last and at - heard >= self._settle_us:
            yield _gap(state, last + 1, beat_batch, at - heard)
        if since is None or not _may_stall(state):
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


def _last(state: ChainState) -> int:
    return state.beyond[-1].last_batch if state.beyond else state.next_batch - 1


def _may_stall(state: ChainState) -> bool:
    # It may be closed beyond a gap: the mark has not come there.
    closed = state.beyond[-1].closes if state.beyond else state.closed
    return not closed and state.continued is None and state.heartbeat_s > 0


def _gap(state: ChainState, first: int, last: int, open_us: int) -> Finding:
    who = f"{state.identity.producer}/{state.identity.instance}"
    # The view open_findings reads the range from these words.
    detail = f"batches {first} to {last} are missing for {open_us / 1e6:.0f} s: {who}"
    return Finding(Code.GAP, detail, state.chain_id, first, estimate_us=open_us)
