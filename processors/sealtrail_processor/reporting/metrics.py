"""What a worker tells about itself: one registry of Prometheus metrics, and its state for probes.

No identity stands in a label that is unbounded: no chains, producers or keys.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from sealtrail.findings import Code

if TYPE_CHECKING:
    from sealtrail_processor.judging.model import Flush

# Of messages that are refused: what they would have added to a chain is at its limit.
_CHAIN_FULL = (Code.GAP, Code.FORK)
_FLUSH_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters and gauges of one worker."""

    def __init__(self) -> None:
        it = self.registry = CollectorRegistry()
        # Memory and descriptors, read from /proc when somebody asks.
        ProcessCollector(registry=it)
        self.messages = Counter(
            "sealtrail_messages", "Messages by what became of them", ["disposition"], registry=it
        )
        self.events = Counter("sealtrail_events", "Events accepted and committed", registry=it)
        self.bytes = Counter("sealtrail_consumed_bytes", "Bytes of committed messages", registry=it)
        self.findings = Counter("sealtrail_findings", "Findings by code", ["code"], registry=it)
        self.flushes = Counter("sealtrail_flushes", "Flushes committed", registry=it)
        self.failures = Counter(
            "sealtrail_flush_failures", "Flushes that were tried again", registry=it
        )
        self.flush_seconds = Histogram(
            "sealtrail_flush_seconds",
            "From messages to commit",
            buckets=_FLUSH_BUCKETS,
            registry=it,
        )
        self.lag = Gauge(
            "sealtrail_lag_messages", "Messages of the topic not committed", registry=it
        )
        self.assigned = Gauge(
            "sealtrail_assigned_partitions", "Partitions of this worker", registry=it
        )
        self.chains = Gauge("sealtrail_chains", "Chains held in memory", registry=it)
        self.hashes = Gauge(
            "sealtrail_chain_hashes", "Hashes of batches held in memory", registry=it
        )
        self.gaps = Gauge("sealtrail_chain_gaps", "Open gaps of chains in memory", registry=it)
        self.branches = Gauge("sealtrail_chain_branches", "Forks of chains in memory", registry=it)
        self.chain_full = Counter(
            "sealtrail_chain_full",
            "Batches refused for a gap or fork too many of their chain",
            ["code"],
            registry=it,
        )
        self.evicted = Counter(
            "sealtrail_chains_evicted",
            "Chains that were left to the store; watched: time might still have found something",
            ["watched"],
            registry=it,
        )
        self.recalled = Counter(
            "sealtrail_chains_recalled", "Chains that a message brought back", registry=it
        )
        self.links = Counter("sealtrail_links", "Link verdicts written", ["verdict"], registry=it)
        self.links_pending = Gauge("sealtrail_links_pending", "Links that wait", registry=it)
        self.published = Counter(
            "sealtrail_published",
            "Alerts and copies offered to the broker",
            ["topic", "result"],
            registry=it,
        )
        self.alerts_held = Counter(
            "sealtrail_alerts_held", "Alerts above the limit of a minute", ["code"], registry=it
        )
        self.undelivered = Gauge(
            "sealtrail_undelivered", "Alerts and copies that no broker took", registry=it
        )
        self.quarantine_bytes = Counter(
            "sealtrail_quarantine_bytes", "Bytes of refused messages that are kept", registry=it
        )
        self.quarantine_unkept = Counter(
            "sealtrail_quarantine_unkept_bytes",
            "Bytes of refused messages that were too many to be kept",
            registry=it,
        )
        self.parked_unkept = Counter(
            "sealtrail_parked_unkept",
            "Parked messages whose bytes are in the topic alone",
            registry=it,
        )
        self.releases = Counter(
            "sealtrail_releases",
            "Parked messages whose record came, by where their bytes were: kept, topic, gone; "
            "unread: they are asked for again",
            ["bytes"],
            registry=it,
        )
        self.clock_jump = Gauge(
            "sealtrail_clock_jump_seconds",
            "How far the machine's clock was set since the start of the worker, which ignores it",
            registry=it,
        )
        self.keys_rejected = Gauge(
            "sealtrail_key_records_rejected",
            "Records on the keys topic that do not count",
            registry=it,
        )

    def count(self, flush: Flush) -> None:
        """Take a committed flush into the counters."""
        self.flushes.inc()
        size = events = 0
        for judged in flush.judged:
            self.messages.labels(judged.disposition.value).inc()
            size += len(judged.message.value or b"")
            if judged.refused is not None:
                kept = self.quarantine_bytes if judged.kept else self.quarantine_unkept
                kept.inc(len(judged.message.value or b""))
                self.parked_unkept.inc(judged.disposition.value == "parked" and not judged.kept)
                if judged.refused.code in _CHAIN_FULL:
                    self.chain_full.labels(judged.refused.code.value).inc()
            if judged.batch is not None and judged.disposition.value in ("accepted", "released"):
                events += len(judged.batch.occurred_at)
            for finding in judged.findings:
                self.findings.labels(finding.code.value).inc()
        self.events.inc(events)
        self.bytes.inc(size)


@dataclass(slots=True)
class Status:
    """State of a worker for probes and the watchdog; times by time.monotonic(), seconds."""

    started: float = field(default_factory=time.monotonic)
    loop_beat: float = field(default_factory=time.monotonic)
    ready: bool = False
    moved: float = field(default_factory=time.monotonic)
    waiting: str = ""
    busy_since: float | None = None
    stopping: bool = False
    lag: int | None = None
    assigned: tuple[int, ...] = ()

    def progress(self) -> None:
        """Something was committed, or is knowingly waited for."""
        self.moved = time.monotonic()


class Busy:
    """Keeps `Status.busy_since`: since when the longest of what is under way has been; for `with`.

    Args:
        status: whose.
    """

    def __init__(self, status: Status) -> None:
        self._status = status
        self._lock = threading.Lock()
        self._since: dict[int, float] = {}

    def __enter__(self) -> None:
        with self._lock:
            self._since[threading.get_ident()] = time.monotonic()
            self._status.busy_since = min(self._since.values())

    def __exit__(self, *_: object) -> None:
        with self._lock:
            del self._since[threading.get_ident()]
            self._status.busy_since = min(self._since.values(), default=None)
