"""Findings that belong to no flush: into the table at once, and every finding to the alerts topic.

Those of a flush are rows of that flush (`sink`); only their alerts go out here, once it is
committed. The table is the truth: an alert that the broker does not take is counted and dropped,
for alerts never hold up ingest.
"""

from __future__ import annotations

import logging
from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail.findings import Disposition
from sealtrail_processor.judging.ports import Outgoing
from sealtrail_processor.reporting import alerts
from sealtrail_processor.reporting.alert_rate import MINUTE_US, AlertRate
from sealtrail_processor.store import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail_processor.judging.model import Finding, Flush, Judged, Log
    from sealtrail_processor.judging.ports import Clock, Publisher
    from sealtrail_processor.reporting.metrics import Metrics
    from sealtrail_processor.store.port import Store

log = logging.getLogger(__name__)
_REFUSED = (Disposition.QUARANTINED, Disposition.PARKED)


class Reports:
    """Writes findings and publishes alerts and copies of refused messages.

    Args:
        store: holds the table `findings`.
        publisher: where alerts and copies go.
        metrics: counts them.
        alerts_topic, quarantine_topic: their topics.
        now: the time, microseconds since 1970.
        alerts_per_minute: of each code; 0 for no limit.
    """

    def __init__(  # noqa: PLR0913 - the composition root names them
        self,
        store: Store,
        publisher: Publisher,
        metrics: Metrics,
        *,
        alerts_topic: str,
        quarantine_topic: str,
        now: Clock,
        alerts_per_minute: int = 0,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._metrics = metrics
        self._alerts_topic = alerts_topic
        self._quarantine_topic = quarantine_topic
        self._now = now
        self._rate = AlertRate(alerts_per_minute)
        # Messages whose bytes were not kept, how many are parked, and when that was last said.
        self._unkept, self._waiting, self._said = 0, 0, 0

    def write(
        self,
        log_: Log,
        found: Sequence[tuple[int, Finding, str]],
        origin: str,
        *,
        alert: bool = True,
        arrivals: Sequence[int] = (),
    ) -> None:
        """Make findings durable, then tell of them.

        Args:
            log_: partition that they are about.
            found: (offset, finding, tenant).
            origin: timer or linker.
            alert: False when somebody was told already.
            arrivals: of what each is about, microseconds since 1970; now unless given.

        Raises:
            SealtrailError: the store did not take them; call again.
        """
        if not found:
            return
        now = self._now()
        times = arrivals or [now] * len(found)
        table = [
            rows.finding_row(log_, offset, finding, tenant=tenant, arrival=at, origin=origin)
            for (offset, finding, tenant), at in zip(found, times, strict=True)
        ]
        # The time is in the token too: a finding that says more than before replaces the old row.
        token = sha256(repr(table).encode()).hexdigest()
        self._store.insert("findings", rows.FINDINGS, table, f"findings/{token}")
        for _, finding, _ in found:
            self._metrics.findings.labels(finding.code.value).inc()
        if alert:
            self._alert(log_, [(offset, finding, tenant, now) for offset, finding, tenant in found])

    def committed(self, flush: Flush) -> None:
        """Alerts and quarantine copies of a committed flush; never waits, never raises."""
        found = []
        for judged in flush.judged:
            tenant = "" if judged.batch is None else judged.batch.statement.tenant
            if judged.disposition in _REFUSED:
                tenant = ""
                self._offer(self._copy(flush.log, judged))
            offset = judged.message.offset
            found += [(offset, finding, tenant, judged.arrival) for finding in judged.findings]
        self._alert(flush.log, found)
        self._say_unkept(flush)

    def _say_unkept(self, flush: Flush) -> None:
        unkept = [judged for judged in flush.judged if not judged.kept]
        self._unkept += len(unkept)
        self._waiting += sum(judged.disposition is Disposition.PARKED for judged in unkept)
        now = self._now()
        if self._unkept and now - self._said >= MINUTE_US:
            log.warning(
                "%s[%d]: %d refused messages are on record without their bytes, %d of them parked: "
                "more than SEALTRAIL_QUARANTINE_BYTES_PER_HOUR or SEALTRAIL_PARKED_BYTES_PER_HOUR; "
                "find out who sends it",
                flush.log.topic,
                flush.log.partition,
                self._unkept,
                self._waiting,
            )
            self._unkept, self._waiting, self._said = 0, 0, now

    def _alert(self, log_: Log, found: Sequence[tuple[int, Finding, str, int]]) -> None:
        now, told = self._now(), []
        for entry in found:
            if self._rate.take(entry[1].code, now):
                told.append(entry)
            else:
                self._metrics.alerts_held.labels(entry[1].code.value).inc()
        for message in alerts.messages(self._alerts_topic, log_, told):
            self._offer(message)

    def _copy(self, log_: Log, judged: Judged) -> Outgoing:
        """The original bytes with dead-letter headers, as Kafka Connect names them."""
        message, refused = judged.message, judged.refused
        code = "" if refused is None else refused.code.value
        detail = "" if refused is None else f"step {refused.step}: {refused.detail}"
        reason = {
            "topic": log_.topic,
            "partition": str(log_.partition),
            "offset": str(message.offset),
            "stage": "VALUE_CONVERTER",
            "exception.class.name": code,
            "exception.message": detail,
        }
        headers = tuple((f"__connect.errors.{k}", v.encode()) for k, v in reason.items())
        own = (
            ("sealtrail-log-id", log_.log_id.encode()),
            ("sealtrail-disposition", judged.disposition.value.encode()),
        )
        return Outgoing(
            self._quarantine_topic, message.key, message.value, (*message.headers, *headers, *own)
        )

    def _offer(self, message: Outgoing) -> None:
        taken = self._publisher.offer(message)
        result = "offered" if taken else "dropped"
        self._metrics.published.labels(message.topic, result).inc()
        if not taken:
            log.warning("%s: the queue is full, a message was dropped", message.topic)
