"""Step 11: parents. What is known of each reference, and how it comes to be known.

- A parent that this worker committed lately is compared in memory: leaf hash and time are those of
  the bytes that were hashed and stored. All others wait a round, for another partition's flush to
  bring them, and are asked of the store then, many ids in one query.
- Not there: POSITION when the parent's chain has come past it, here or by what its worker tells
  (`heads`), else PENDING; asked again after 0.2 s, doubling to 60 s, and at once when another
  worker tells that the parent's chain came past it. After the window: LOST_WITH_PRODUCER when the
  parent's chain fell silent unclosed before it came so far, else ORPHAN; and still asked now and
  then, since a parent may come late.
- Of another tenant's events nothing is told, but to a child that proves by the leaf hash (which is
  salted) that it was told of the parent: EXTERNAL.
- A cycle needs a reference whose leaf hash is wrong, for a hash cannot be known before it is made:
  so only a MISMATCH is searched for one, and the search ends at bounds of its own.
- What waits is bounded. It can be read from the store again (edges without a lasting verdict): that
  is done on assignment, and when memory had no room.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from sealtrail.errors import SealtrailError
from sealtrail.findings import Code, Disposition, Verdict
from sealtrail_processor.judging.model import Finding, Log
from sealtrail_processor.linking import edges
from sealtrail_processor.linking.cycles import Rings
from sealtrail_processor.linking.pending import FIRST_RETRY_S, NO_CHAIN, Pending, Waiting, place
from sealtrail_processor.linking.recent import Recent
from sealtrail_processor.linking.references import Groups, References
from sealtrail_processor.linking.suspects import Suspects
from sealtrail_processor.linking.unread import Unread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sealtrail_processor.judging.model import Flush
    from sealtrail_processor.judging.ports import Clock
    from sealtrail_processor.linking.edges import Decision, Edge, Stored
    from sealtrail_processor.linking.heads import Heads
    from sealtrail_processor.linking.link_store import LinkStore
    from sealtrail_processor.reporting.metrics import Metrics
    from sealtrail_processor.reporting.reports import Reports
    from sealtrail_processor.settings import WorkerSettings

log = logging.getLogger(__name__)

LAST_RETRY_S = 60.0
# A round begins no sooner after the one before: each ends with an insert, and a small one costs the
# store as much as a large one.
ROUND_S = 0.5
GIVE_UP_WINDOWS = 144
AT_ONCE, FEW_FLUSHES = 10_000, 16
_TAKEN = (Disposition.ACCEPTED, Disposition.RELEASED)


class Linker:
    """Resolves parents beside the stream, in a thread of its own.

    Args:
        store: events, edges, verdicts.
        reports: where findings go.
        metrics: counts verdicts.
        settings: windows and bounds.
        chain_of: chain state by the 82 bits of an event id, of this worker's partitions.
        heads: what other workers tell of theirs.
        now: microseconds since 1970.
        horizon: up to when all that the log held is committed: a parent that is behind in another
            partition is no orphan.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the worker names them
        self,
        store: LinkStore,
        reports: Reports,
        metrics: Metrics,
        settings: WorkerSettings,
        chain_of: Callable[[int], Any],
        heads: Heads,
        now: Clock,
        horizon: Clock,
    ) -> None:
        self._store = store
        self._reports = reports
        self._metrics = metrics
        self._settings = settings
        self._chain_of = chain_of
        self._heads = heads
        self._now = now
        self._horizon = horizon
        self._recent = Recent(settings.links_recent_events)
        self._suspects = Suspects(self._store, reports, settings)
        self._rings = Rings(self._store, now)
        # Each holds the references of a flush: what is not taken in time is read again.
        self._inbox: queue.Queue[Flush | Log] = queue.Queue(maxsize=64)
        self._pending = Pending()
        self._unread = Unread(store, settings, now)
        self._read_at, self._read_pause_s = 0.0, FIRST_RETRY_S
        self._verdicts: list[Decision] = []
        # Verified in memory, nearly all: no object is made for each of them.
        self._held: list[References] = []
        self._found: list[tuple[Edge, Finding]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="linker", daemon=True)

    # -- from other threads -----------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop it; what was not decided is found again in the store."""
        self._stopped.set()

    def committed(self, flush: Flush) -> None:
        """Take a committed flush; never waits."""
        try:
            self._inbox.put_nowait(edges.without_bytes(flush))
        except queue.Full:
            self._unread.add(flush.log, min(judged.arrival for judged in flush.judged))

    def rebuild(self, at: Log) -> None:
        """Read what waits of a partition from the store; at assignment."""
        self._unread.add(at)

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = FIRST_RETRY_S
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                self.turn(0.0 if self._reads() else FIRST_RETRY_S)
                pause = FIRST_RETRY_S
                # With more at hand it goes on: the inbox is bounded, and a start is to be short.
                if self._inbox.empty() and not self._reads():
                    self._stopped.wait(max(began + ROUND_S - time.monotonic(), 0.0))
            except SealtrailError as error:
                log.warning("links wait: %s", error)
                self._stopped.wait(pause)
                pause = min(2 * pause, 10.0)
            except Exception:
                # The stream must go on; what is unresolved stays visible as a pending link.
                log.exception("the linker failed, it goes on")
                self._stopped.wait(5.0)

    def turn(self, wait_s: float) -> None:
        """One round: take flushes, ask for what is due, write what was decided."""
        for edge in self._arrived(wait_s):
            # Most of what memory has not is on its way here, in another partition's flush.
            self._wait(Waiting(edge), FIRST_RETRY_S)
        for head in self._heads.read():
            self._pending.wake(head.prefix, head.next_seq)
        try:
            self._ask()
        finally:
            # What memory proved does not wait for a store that does not answer.
            self._write()
        self._metrics.links_pending.set(len(self._pending))
        self._suspects.turn(self._now())
        self._reread()
        # Last: a search that fails holds up no verdict.
        if closed := self._rings.again():
            self._circle(*closed)
            self._write()

    def _arrived(self, wait_s: float) -> list[Edge]:
        arrived: list[Edge] = []
        try:
            item = self._inbox.get(timeout=wait_s)
            while True:
                arrived += self._take(item)
                if len(arrived) > AT_ONCE or sum(map(len, self._held)) > 4 * AT_ONCE:
                    break
                item = self._inbox.get_nowait()
        except queue.Empty:
            pass
        return arrived

    def _take(self, flush: Any) -> list[Edge]:
        """Decide from memory what can be; return the rest."""
        batches = [j for j in flush.judged if j.disposition in _TAKEN and j.batch is not None]
        for judged in batches:
            self._recent.add(judged)
        self._suspects.take(flush)
        rest = []
        for judged in batches:
            held, others = self._recent.split(judged)
            self._held += held
            rest += edges.of_batch(flush.log, judged, others)
        return rest

    def _reads(self) -> bool:
        """Whether anything of the store is to be read, and there is room and time for it."""
        return (
            bool(self._unread)
            and len(self._pending) < self._settings.links_pending_max // 2
            # What waits there would be read as well.
            and self._inbox.qsize() < FEW_FLUSHES
            and time.monotonic() >= self._read_at
        )

    def _reread(self) -> None:
        """Read some of what waits, and no more: flushes come meanwhile."""
        if not self._reads():
            return
        try:
            found = self._unread.read()
        except SealtrailError as error:
            # Verdicts are not to wait for it.
            log.warning("open links cannot be read: %s", error)
            self._read_at = time.monotonic() + self._read_pause_s
            self._read_pause_s = min(2 * self._read_pause_s, LAST_RETRY_S)
            return
        self._read_pause_s = FIRST_RETRY_S
        for edge, verdict in found:
            self._wait(Waiting(edge, verdict=verdict), 0.0)

    def _wait(self, waiting: Waiting, pause_s: float) -> None:
        if len(self._pending) < self._settings.links_pending_max:
            self._pending.add(waiting, pause_s)
        else:
            self._unread.add(waiting.edge.log, waiting.edge.arrival)

    def _ask(self) -> None:
        due = []
        for waiting in self._pending.due(AT_ONCE):
            edge = waiting.edge
            parent = (edge.parent_id, edge.parent_occurred_at, edge.parent_leaf)
            # The first time alone: a parent that comes later is in the store, and many may wait.
            if waiting.verdict is None and self._recent.holds(*parent, edge.tenant):
                self._verdicts.append((edge, Verdict.VERIFIED))
            else:
                due.append(waiting)
        if not due:
            return
        due.reverse()
        try:
            found = self._store.events({w.edge.parent_id for w in due})
            while due:
                self._decide(due[-1], found.get(due[-1].edge.parent_id, ()))
                due.pop()
        except SealtrailError:
            # And not those that are decided: they would be reported again.
            for waiting in due:
                self._wait(waiting, waiting.pause_s)
            raise

    def _decide(self, waiting: Waiting, found: Sequence[Stored]) -> None:
        """What is asked of the store for it is asked before anything is said."""
        edge = waiting.edge
        verdict = edges.compare(edge, found)
        if verdict is Verdict.MISMATCH:
            self._mismatch(edge)
        if verdict is not None:
            self._verdicts.append((edge, verdict))
            return
        age = self._horizon() - edge.arrival
        window = round(self._settings.orphan_window_s * 1e6)
        verdict = self._open_verdict(edge) if age < window else self._lost(edge)
        if verdict is not waiting.verdict:
            waiting.verdict = verdict
            self._verdicts.append((edge, verdict))
            if verdict in (Verdict.ORPHAN, Verdict.LOST_WITH_PRODUCER):
                self._orphan(edge, verdict)
        if age < window * GIVE_UP_WINDOWS:
            self._wait(waiting, waiting.pause_s)
            longest = LAST_RETRY_S if age < window else self._settings.orphan_window_s
            waiting.pause_s = min(waiting.pause_s * 2, longest)

    def _open_verdict(self, edge: Edge) -> Verdict:
        prefix, seq = place(edge)
        state = self._chain_of(prefix)
        if state is None:
            passed = self._heads.passed(prefix, seq, edge.tenant)
        else:
            # Of another tenant's chains nothing is told, not even how far they are.
            passed = seq < state.next_seq and state.identity.tenant == edge.tenant
        return Verdict.POSITION if passed else Verdict.PENDING

    def _lost(self, edge: Edge) -> Verdict:
        """ORPHAN, or LOST_WITH_PRODUCER when the parent's producer fell silent before it."""
        prefix, seq = place(edge)
        if prefix == NO_CHAIN:
            return Verdict.ORPHAN
        chain = self._store.silent_since(prefix, edge.tenant)
        if chain is None:
            return Verdict.ORPHAN
        alive, next_seq, closed, heartbeat_s = chain
        silent = self._now() - alive
        stalled = silent > self._settings.stalled_heartbeats * heartbeat_s * 1e6
        lost = seq >= next_seq and not closed and heartbeat_s > 0 and stalled
        return Verdict.LOST_WITH_PRODUCER if lost else Verdict.ORPHAN

    def _orphan(self, edge: Edge, verdict: Verdict) -> None:
        code = Code.ORPHAN if verdict is Verdict.ORPHAN else Code.LOST_WITH_PRODUCER
        waited = self._now() - edge.arrival
        detail = f"parent {edges.name(edge.parent_id)} did not come within {waited / 1e6:.0f} s"
        self._note(edge, code, detail, estimate=waited)

    def _mismatch(self, edge: Edge) -> None:
        path = self._rings.search(edge)
        parent = edges.name(edge.parent_id)
        detail = f"parent {parent} is stored with another hash or time"
        self._note(edge, Code.LINK_MISMATCH, detail)
        if path:
            self._circle(edge, path)

    def _circle(self, edge: Edge, path: Sequence[bytes]) -> None:
        names = " -> ".join(edges.name(event_id) for event_id in path[:12])
        self._note(edge, Code.CYCLE, f"{len(path) - 1} references: {names}")

    def _note(self, edge: Edge, code: Code, detail: str, estimate: int = 0) -> None:
        window = round(self._settings.orphan_window_s * 1e6) if estimate else 0
        finding = Finding(
            code,
            detail,
            edge.child_chain,
            0,
            edge.child_id,
            None,
            estimate,
            window,
        )
        self._found.append((edge, finding))

    def _said(self) -> dict[Verdict, list[References]]:
        """What this round decided, of each reference once: what memory proved, else the last."""
        said = {Verdict.VERIFIED: list(self._held)}
        decided = {edge.reference: verdict for edge, verdict in self._verdicts}
        proved = Groups(self._held)
        for reference, verdict in decided.items():
            if reference not in proved:
                said.setdefault(verdict, []).append(References.of(reference))
        return said

    def _write(self) -> None:
        if self._held or self._verdicts:
            said = self._said()
            self._store.write(said, self._now())
            for verdict, groups in said.items():
                self._metrics.links.labels(verdict.value).inc(sum(map(len, groups)))
            self._held, self._verdicts = [], []
        while self._found:
            # All of one log in one insert: a burst of orphans is thousands.
            log_ = self._found[0][0].log
            entries = [(e.offset, f, e.tenant) for e, f in self._found if e.log == log_]
            self._reports.write(log_, entries, "linker")
            self._found = [(e, f) for e, f in self._found if e.log != log_]
