"""Whose clock is wrong when an event stands before its cause: the chain that is AHEAD, if one is.

A flush may not look beyond its partition; this does, afterwards, and adds the suspect to findings
of live events. Only chains with a finding about their own clock are suspects.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from sealtrail import ids
from sealtrail.findings import Code
from sealtrail_processor.linking.edges import place

if TYPE_CHECKING:
    from sealtrail_processor.judging.model import Finding, Flush, Judged, Log
    from sealtrail_processor.linking.link_store import LinkStore
    from sealtrail_processor.reporting.reports import Reports
    from sealtrail_processor.settings import WorkerSettings

# How long a suspect is looked for, how many findings wait for one, and how many chains may be one.
PATIENCE_US = 60_000_000
PENDING = 10_000


class Suspects:
    """Findings of CAUSALITY that have no suspect yet."""

    def __init__(self, store: LinkStore, reports: Reports, settings: WorkerSettings) -> None:
        self._store = store
        self._reports = reports
        self._history_us = round(settings.backfill_tolerance_s * 1e6)
        self._clock_us = round(settings.clock_tolerance_s * 1e6)
        self._pending: list[tuple[Log, int, Finding, str, int, int]] = []
        self._skewed: dict[int, bytes] = {}
        self._asked = 0

    def take(self, flush: Flush) -> None:
        """Look at the findings of a committed flush."""
        for judged in flush.judged:
            for finding in judged.findings:
                if finding.code is Code.AHEAD:
                    self._skewed[ids.chain_prefix(finding.chain_id)] = finding.chain_id
                if finding.code is not Code.CAUSALITY or finding.suspect is not None:
                    continue
                history = finding.tolerance_us == self._history_us != self._clock_us
                if not history and len(self._pending) < PENDING:
                    self._add(flush.log, judged, finding)
        self._forget()

    def _add(self, log: Log, judged: Judged, finding: Finding) -> None:
        batch = judged.batch
        if batch is None or finding.event_id is None:
            return
        statement = batch.statement
        _, seq = ids.parse(finding.event_id)
        parents = batch.parents[seq - statement.first_seq]
        latest = max(parents, key=lambda p: p.occurred_at)
        at = place(latest.event_id)
        if at is None:
            return
        prefix, _ = at
        offset, tenant = judged.message.offset, statement.tenant
        self._pending.append((log, offset, finding, tenant, judged.arrival, prefix))

    def turn(self, now: int) -> None:
        """Add the suspects that are known by now.

        Raises:
            SealtrailError: the store cannot be reached; call again.
        """
        if not self._pending:
            return
        if now - self._asked > 2_000_000:
            self._asked = now
            wanted = {prefix for *_, prefix in self._pending}
            self._skewed |= self._store.ahead(wanted - self._skewed.keys())
        waiting = []
        known: dict[Log, list[tuple[int, Finding, str]]] = {}
        arrivals: dict[Log, list[int]] = {}
        for entry in self._pending:
            log, offset, finding, tenant, arrival, prefix = entry
            suspect = self._skewed.get(prefix)
            if suspect is not None:
                found = (offset, replace(finding, suspect=suspect), tenant)
                known.setdefault(log, []).append(found)
                arrivals.setdefault(log, []).append(arrival)
            elif now - arrival < PATIENCE_US:
                waiting.append(entry)
        for log, entries in known.items():
            # Somebody was alerted when they were found; the rows alone say more now.
            self._reports.write(log, entries, "linker", alert=False, arrivals=arrivals[log])
        self._pending = waiting

    def _forget(self) -> None:
        """Whoever has a good key may have any number of chains found AHEAD."""
        for prefix in list(itertools.islice(self._skewed, max(len(self._skewed) - PENDING, 0))):
            del self._skewed[prefix]
