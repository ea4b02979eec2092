"""The worker without Faust: assigned partitions, and what runs beside the stream.

Threads: the *flush* thread alone judges and reads keys; *lanes* wait for the store (`together`);
the *upkeep* thread looks after keys, timers, releases and the watchdog (`upkeep`); the linker has a
thread of its own (`links`). The event loop only waits for them.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sealtrail.chain import Bounds
from sealtrail.validate import Place
from sealtrail_processor.judging import clock
from sealtrail_processor.judging.judge import Rules, examine
from sealtrail_processor.linking.heads import Heads
from sealtrail_processor.linking.link_store import LinkStore
from sealtrail_processor.linking.links import Linker
from sealtrail_processor.pipeline.assigned import Assigned
from sealtrail_processor.pipeline.cutting import Caps
from sealtrail_processor.pipeline.holding import Holding
from sealtrail_processor.pipeline.step import Ports
from sealtrail_processor.pipeline.together import Together
from sealtrail_processor.pipeline.upkeep import Upkeep
from sealtrail_processor.reporting.metrics import Busy, Metrics, Status
from sealtrail_processor.reporting.reports import Reports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sealtrail.records import Directory
    from sealtrail_processor.judging.judge import Arrival, Examined
    from sealtrail_processor.judging.keys_reader import KeysReader
    from sealtrail_processor.judging.model import Finding, Flush, Log, RawMessage, Sink
    from sealtrail_processor.judging.ports import Clock, Ledger, Publisher
    from sealtrail_processor.kafka.beside import KafkaSide
    from sealtrail_processor.linking.heads import HeadsTopic
    from sealtrail_processor.pipeline.marks import Marks
    from sealtrail_processor.pipeline.partition import Partition
    from sealtrail_processor.quarantine.originals import Topic
    from sealtrail_processor.settings import WorkerSettings
    from sealtrail_processor.store.port import Store

log = logging.getLogger(__name__)

# Partitions that are loaded at a time when they are assigned.
LOADERS = 4
EXIT_FAILED = 3


@dataclass(frozen=True, slots=True)
class Outside:
    """What a worker is wired to (`wiring.connect` makes the real ones; tests replace some).

    Args:
        heads_publisher: apart from `publisher`: heads may be dropped, and hold up nothing.
        tables: raises ConfigurationError unless the store's tables are of this version.
    """

    store: Store
    ledger: Ledger
    sink: Sink
    broker: KafkaSide
    keys: KeysReader
    publisher: Publisher
    heads: HeadsTopic
    heads_publisher: Publisher
    marks: Marks
    tables: Callable[[], None]
    now: Clock
    # Opens a client that reads the topic beside the stream.
    originals: Callable[[], Topic]
    # How far the machine's clock was set since the start, microseconds.
    clock_jump: Clock = lambda: 0
    # Steps 1 to 9; a benchmark measures what they cost by leaving them out.
    examine: Callable[[RawMessage, Arrival, Place, Directory], Examined] = examine


class Worker:
    """State of a worker process.

    Args:
        settings: windows, tolerances, names.
        outside: what it is wired to.
        leave: ends the process with a status; called when going on would be wrong.
    """

    def __init__(
        self, settings: WorkerSettings, outside: Outside, leave: Callable[[int], None]
    ) -> None:
        self.settings = settings
        self.outside = outside
        self.metrics = Metrics()
        self.status = Status()
        self._leave = leave
        self._flushing = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._lanes = ThreadPoolExecutor(settings.flush_lanes, thread_name_prefix="lane")
        together = Together(
            outside.sink,
            outside.ledger,
            outside.now,
            self.refresh_keys,
            self.in_flush_thread,
            outside.marks.own,
        )
        self._busy = Busy(self.status)
        holding = Holding(settings.chains_max, settings.chain_hashes_max)
        self._assigned = Assigned(
            self._ports(holding),
            self.rules,
            Caps(settings.flush_events, settings.flush_bytes),
            together,
            self._loaded,
        )
        self.partitions = self._assigned.partitions
        self._reports = Reports(
            outside.store,
            outside.publisher,
            self.metrics,
            alerts_topic=settings.alerts_topic,
            quarantine_topic=settings.quarantine_topic,
            now=outside.now,
            alerts_per_minute=settings.alerts_per_minute,
        )
        self._heads = Heads(
            outside.heads, outside.heads_publisher, settings.heads_topic, settings.heads_max
        )
        self._linker = Linker(
            LinkStore(outside.store),
            self._reports,
            self.metrics,
            settings,
            self.chain_of,
            self._heads,
            outside.now,
            lambda: self.upkeep.horizon.at,
        )
        self.upkeep = Upkeep(
            settings,
            outside,
            self.status,
            self.metrics,
            self._reports,
            partitions=self.partitions,
            rules=self.rules,
            holding=holding,
            refresh_keys=self.refresh_keys,
            in_flush_thread=self.in_flush_thread,
            leave=partial(self.leave, EXIT_FAILED),
        )
        self._complete = False

    # -- the stream's side ----------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads beside the stream."""
        self.upkeep.start()
        self._linker.start()

    def in_flush_thread(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run something that touches partitions, in order with everything else that does."""
        return self._flushing.submit(work, *args)

    def in_lane(
        self, groups: Mapping[int, Sequence[RawMessage]], generation: int
    ) -> Future[set[int]]:
        """Judge and commit messages by partition; partitions of one call wait for one another.

        The future's answer and errors are those of `process_together`.

        Args:
            groups: messages by partition.
            generation: of the group, in which they were fetched.
        """
        return self._lanes.submit(self.process_together, groups, generation)

    def assign(self, topic: str, numbers: Iterable[int], generation: int) -> dict[int, int]:
        """Take partitions over: state as of the last commit; next offset of each.

        Runs in the flush thread.

        Args:
            topic: of the partitions.
            numbers: all that are this worker's now.
            generation: of the group; see `Assigned.take_over`.

        Raises:
            SealtrailError: store or broker cannot be asked; call again.
        """
        with self._busy:
            return self._take_over(topic, sorted(numbers), generation)

    def _take_over(self, topic: str, wanted: list[int], generation: int) -> dict[int, int]:
        if not self._complete:
            # Again: at the start the store may have been away.
            self.outside.tables()
            self.outside.keys.load()
            self._complete = True
            self.refresh_keys()
            self.outside.keys.restore(self.outside.publisher)
        self.collect_deaths()
        with ThreadPoolExecutor(LOADERS, thread_name_prefix="load") as loaders:
            offsets = self._assigned.take_over(topic, wanted, generation, loaders.map)
        self.status.assigned = tuple(sorted(self.partitions))
        self.status.ready = not any(p.closed for p in self.partitions.values())
        self.status.progress()
        self.upkeep.assigned()
        self.metrics.assigned.set(len(self.partitions))
        return offsets

    def collect_deaths(self) -> None:
        """Bring what dead workers had in hand into the store, where all read it.

        Raises:
            SealtrailError: the store cannot take it; call again.
        """
        found = self.outside.marks.collect(self.outside.ledger.record_death)
        if found:
            log.warning("%d workers died with messages in hand", found)

    def _ports(self, holding: Holding) -> Ports:
        return Ports(
            self.outside.ledger,
            self.outside.sink,
            self.outside.broker,
            self.outside.keys.directory,
            self.refresh_keys,
            self._report,
            self._committed,
            self.outside.now,
            self.outside.marks.own,
            holding,
            self.outside.examine,
        )

    def _loaded(self, partition: Partition) -> None:
        number = partition.log.partition
        self.upkeep.loaded(number)
        self._linker.rebuild(partition.log)
        log.info(
            "partition %d: log %s from offset %d, %d chains",
            number,
            partition.log.log_id,
            partition.next_offset,
            len(partition.chains.by_id),
        )

    def rules(self, log_: Log) -> Rules:
        """What a partition's messages are judged by."""
        settings = self.settings
        tenants = frozenset({settings.tenant, *settings.accept_tenants})
        limits = clock.Tolerances(
            _us(settings.clock_tolerance_s),
            _us(settings.backfill_tolerance_s),
            _us(settings.behind_tolerance_s),
        )
        place = Place(settings.environment, tenants, log_.topic, log_.partition)
        bounds = Bounds(settings.chain_gaps_max, settings.chain_branches_max)
        return Rules(
            place,
            limits,
            _us(settings.gap_settle_s),
            bounds,
            settings.quarantine_bytes_per_hour,
            settings.parked_bytes_per_hour,
        )

    def revoke(self, numbers: Iterable[int]) -> None:
        """Partitions were taken away: nothing more is begun for them."""
        self._assigned.revoke(numbers)
        self.status.ready = False

    def process_together(
        self, groups: Mapping[int, Sequence[RawMessage]], generation: int
    ) -> set[int]:
        """Judge and commit messages of some partitions; runs in a lane's thread.

        Returns:
            The partitions whose messages are committed, and may be acknowledged.

        Raises:
            SealtrailError: call again with the same messages (but see Partition.process).
        """
        with self._busy, self.metrics.flush_seconds.time():
            return self._assigned.process(groups, generation)

    def refresh_keys(self) -> None:
        """Read the keys topic to its end; runs in the flush thread."""
        self.outside.keys.refresh()
        self.metrics.keys_rejected.set(self.outside.keys.rejected)

    def chain_of(self, prefix: int) -> Any:
        """The chain state whose id begins with 82 bits, of any assigned partition."""
        for partition in list(self.partitions.values()):
            state = partition.chains.by_prefix(prefix)
            if state is not None:
                return state
        return None

    # -- what happens after a commit ------------------------------------------------------------

    def _committed(self, flush: Flush) -> None:
        self.status.progress()
        self.metrics.count(flush)
        self._reports.committed(flush)
        self._linker.committed(flush)
        self.upkeep.committed(flush)
        partition = self.partitions.get(flush.log.partition)
        if partition is not None:
            self._heads.committed(flush, partition.chains)

    def _report(self, log_: Log, offset: int, finding: Finding) -> None:
        self._reports.write(log_, [(offset, finding, "")], "timer")

    # -- the end ----------------------------------------------------------------------------------

    def leave(self, status: int, *, blame: bool = False) -> None:
        """End the process now: what is not committed will be read again.

        Args:
            status: of the process.
            blame: whether the messages in hand are why.
        """
        if not blame:
            self.outside.marks.own.absolve()
        self.outside.publisher.close(1.0)
        self._leave(status)

    def stop(self) -> None:
        """Stop the threads beside the stream; waits at most some seconds."""
        self.status.stopping = True
        self.upkeep.stop()
        self._linker.stop()
        self._lanes.shutdown(wait=False, cancel_futures=True)
        self._flushing.shutdown(wait=False, cancel_futures=True)
        self.outside.publisher.close(2.0)
        self.outside.heads_publisher.close(0.0)


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
