"""What goes on beside the stream: keys, timers, releases, the watchdog.

A thread of its own. What touches partitions or the directory it hands over to the flush thread, and
while it waits for that it goes on watching whether anything moves.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from sealtrail.errors import SealtrailError, UnavailableError
from sealtrail_processor.judging.model import finding_id
from sealtrail_processor.judging.ports import LogChanged
from sealtrail_processor.pipeline.holding import Held
from sealtrail_processor.pipeline.timers import Timers
from sealtrail_processor.pipeline.watchdog import Horizon, Watchdog
from sealtrail_processor.quarantine.originals import Originals
from sealtrail_processor.quarantine.releasing import Releaser
from sealtrail_processor.store.ledger import StoreLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from sealtrail_processor.judging.judge import Rules
    from sealtrail_processor.judging.model import Finding, Flush, Log
    from sealtrail_processor.pipeline.holding import Holding
    from sealtrail_processor.pipeline.partition import Partition
    from sealtrail_processor.pipeline.timers import Found
    from sealtrail_processor.pipeline.worker import Outside
    from sealtrail_processor.reporting.metrics import Metrics, Status
    from sealtrail_processor.reporting.reports import Reports
    from sealtrail_processor.settings import WorkerSettings

log = logging.getLogger(__name__)

UPKEEP_S = 0.5
WATCH_S = 2.0
BUSY_S = 900.0
# That one question to the store names.
FINDINGS = 200
# Timers look at partitions that no lane is busy with; one that always was is waited for.
OVERDUE_S, PATIENCE_S = 5.0, 10.0


class Leave(Protocol):
    """Ends the process; blame: whether the messages in hand are why."""

    def __call__(self, *, blame: bool = False) -> None:
        """Does not return."""


class Upkeep:
    """Looks after a worker's partitions.

    Args:
        settings: windows and names.
        outside: what the worker is wired to.
        status, metrics, reports: where to tell of it.
        partitions: those that are assigned, by number; the worker's own, which changes them.
        rules: what a log's messages are judged by.
        holding: what became of the partitions' chains.
        refresh_keys: reads the keys topic to its end; called in the flush thread.
        in_flush_thread: runs something in the flush thread.
        leave: when going on would be wrong.
    """

    def __init__(  # noqa: PLR0913 - the worker's parts, most by keyword
        self,
        settings: WorkerSettings,
        outside: Outside,
        status: Status,
        metrics: Metrics,
        reports: Reports,
        *,
        partitions: Mapping[int, Partition],
        rules: Callable[[Log], Rules],
        holding: Holding,
        refresh_keys: Callable[[], None],
        in_flush_thread: Callable[..., Future[Any]],
        leave: Leave,
    ) -> None:
        self._settings = settings
        self._outside = outside
        self._status = status
        self._metrics = metrics
        self._reports = reports
        self._partitions = partitions
        self._rules = rules
        self._holding = holding
        self._counted = (0, 0, 0)
        self._refresh_keys = refresh_keys
        self._in_flush_thread = in_flush_thread
        self._leave = leave
        self._stop = threading.Event()
        self.watchdog = Watchdog(settings.session_timeout_s + settings.watchdog_margin_s)
        self.horizon = Horizon()
        self._timers = Timers(settings)
        self._releaser = Releaser(
            outside.store,
            Originals(outside.originals, StoreLedger(outside.store)),
            outside.publisher,
            reports,
            metrics,
            outside.now,
        )
        self._looked_at: dict[int, float] = {}
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more; does not wait."""
        self._stop.set()

    # -- what the worker tells ------------------------------------------------------------------

    def loaded(self, number: int) -> None:
        """A partition was read anew: its chains are watched from now on."""
        self._timers.forget(number)
        self._releaser.loaded()

    def assigned(self) -> None:
        """Partitions were handed out, and are loaded."""
        # Workers that die time and again stop the whole group: no reason for the others to leave.
        self.watchdog.assigned(time.monotonic())

    def committed(self, flush: Flush) -> None:
        """A flush stands in the store; in the thread that wrote it."""
        self._timers.committed(flush)
        self._releaser.committed(flush, self._outside.keys, self._rules)

    # -- turns ----------------------------------------------------------------------------------

    def _run(self) -> None:
        watched = 0.0
        while not self._stop.wait(UPKEEP_S):
            try:
                self.step()
                if time.monotonic() - watched > WATCH_S:
                    watched = time.monotonic()
                    self.watch()
            except LogChanged as error:
                log.error("%s; %s", error.message, error.hint)  # noqa: TRY400 - a known state
                self._leave()
            except SealtrailError as error:
                log.warning("upkeep: %s", error)
            except (RuntimeError, CancelledError):
                # Stopping closes the flush thread; else a fault is shown like any other.
                if not self._stop.is_set():
                    log.exception("upkeep failed")
            except Exception:
                # A fault here must not end releases, timers and the watchdog in silence.
                log.exception("upkeep failed")

    def step(self) -> None:
        """One turn of everything but the watchdog."""
        self._metrics.clock_jump.set(self._outside.clock_jump() / 1e6)
        # Nothing else may be offered for long, and then nobody would note what was given up.
        self._outside.publisher.poll()
        self._metrics.undelivered.set(self._outside.publisher.failed)
        if not self._status.ready:
            return
        # In the flush thread, so that neither keys nor chains change under a flush. When that is
        # busy the work waits its turn; this thread waits no longer than it takes to notice.
        future = self._in_flush_thread(self.look_around)
        while True:
            try:
                found, held = future.result(timeout=UPKEEP_S)
                break
            except TimeoutError:
                if self._stop.is_set():
                    return
                self.watch()
        self.tell(found)
        self._count(held)
        logs = [p.log for p in list(self._partitions.values())]
        self._releaser.run(logs, self._outside.keys, self._rules)

    def tell(self, found: Mapping[Log, list[Found]]) -> None:
        """Write what `look_around` has found; each finding is told once.

        Another worker may have told of it, or this one before it left the chain to the store.
        """
        for log_, entries in found.items():
            known = self._on_record([(finding_id(log_, at, f), f) for at, f, _ in entries])
            fresh = [e for e in entries if finding_id(log_, e[0], e[1]) not in known]
            if fresh:
                self._reports.write(log_, fresh, "timer")
        self._timers.written(found)

    def _on_record(self, asked: Sequence[tuple[bytes, Finding]]) -> set[bytes]:
        """Those of these findings that the store has."""
        found: set[bytes] = set()
        for first in range(0, len(asked), FINDINGS):
            part = asked[first : first + FINDINGS]
            rows = self._outside.store.query(
                "SELECT finding_id FROM findings WHERE code IN ('GAP', 'STALLED_CHAIN') "
                "AND chain_id IN "
                "(SELECT toFixedString(unhex(arrayJoin({chains:Array(String)})), 32)) "
                "AND finding_id IN "
                "(SELECT toFixedString(unhex(arrayJoin({ids:Array(String)})), 16))",
                {
                    "chains": sorted({finding.chain_id.hex() for _, finding in part}),
                    "ids": [id_.hex() for id_, _ in part],
                },
            )
            found.update(bytes(row[0]) for row in rows)
        return found

    def look_around(self) -> tuple[Mapping[Log, list[Found]], Held]:
        """Findings that time makes, and what is held of chains; runs in the flush thread.

        Raises:
            LogChanged: the broker is another one now.
            UnavailableError: broker or store.
        """
        open_partitions = [p for p in self._partitions.values() if not p.closed]
        with self._watching():
            for partition in open_partitions[:1]:
                # All partitions are of one topic; a new log need not bring messages to say so.
                partition.check_log()
        self._refresh_keys()
        lagging = self._status.lag is None or self._status.lag > 0
        # What a lane waits for may still be undone: such partitions are looked at another time.
        with ExitStack() as locks:
            settled = [p for p in open_partitions if self._settled(p, locks)]
            found = self._timers.check(settled, self._outside.now(), lagging=lagging)
            for partition in settled:
                number = partition.log.partition
                evicted = partition.evict(partial(self._timers.pending, number))
                self._timers.evicted(number, evicted)
        self._timers.trim(open_partitions)
        return found, Held.of(p.chains for p in open_partitions)

    def _count(self, held: Held) -> None:
        """Show what is held of chains, and what became of the others since the last look."""
        it, metrics = self._holding, self._metrics
        metrics.chains.set(held.chains)
        metrics.hashes.set(held.hashes)
        metrics.gaps.set(held.gaps)
        metrics.branches.set(held.branches)
        now = (it.evicted - it.watched, it.watched, it.recalled)
        counters = (
            metrics.evicted.labels("no"),
            metrics.evicted.labels("yes"),
            metrics.recalled,
        )
        for counter, before, after in zip(counters, self._counted, now, strict=True):
            counter.inc(after - before)
        self._counted = now

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """A broker that is away: how much waits is unknown, and nobody is silent meanwhile."""
        try:
            yield
        except UnavailableError:
            self._status.lag = None
            self._timers.look_away()
            raise

    def _settled(self, partition: Partition, locks: ExitStack) -> bool:
        """Lock a partition if it is free, or if it was not for too long."""
        number, now = partition.log.partition, time.monotonic()
        waited = now - self._looked_at.setdefault(number, now)
        if not partition.lock.acquire(timeout=PATIENCE_S if waited > OVERDUE_S else 0):
            return False
        locks.callback(partition.lock.release)
        self._looked_at[number] = now
        return True

    def watch(self) -> None:
        """One look at how far log and group are; ends the process when nothing moves."""
        broker, topic = self._outside.broker, self._settings.topic
        begun = self._outside.now()
        with self._watching():
            numbers = range(broker.partitions(topic))
            ends = {n: broker.watermarks(topic, n)[1] for n in numbers}
            done = broker.committed(topic, list(numbers))
        for number, partition in list(self._partitions.items()):
            if not partition.closed:
                done[number] = partition.next_offset
        # A store that takes half a minute for an insert is slow, not stuck: what is under way may
        # end, for each call has a timeout of its own.
        busy = self._status.busy_since
        working = busy is not None and time.monotonic() - busy < BUSY_S
        self.horizon.observe(begun, ends, done)
        lag, stuck = self.watchdog.observe(
            time.monotonic(),
            ends,
            done,
            own=[number for number, p in self._partitions.items() if not p.closed],
            waiting=bool(self._status.waiting),
            working=working,
        )
        self._status.lag = lag
        self._metrics.lag.set(lag)
        if stuck and not self._status.stopping:
            log.error("%d messages wait and nothing moves: leaving, to be started anew", lag)
            self._leave(blame=busy is not None)
