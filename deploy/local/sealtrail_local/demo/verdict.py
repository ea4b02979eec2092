"""What a demo came to, and whether all of it was as it must be. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

# Kinds that the demo brings about itself: wrong clocks, now and in history, and the forgeries.
EXPECTED = frozenset({"AHEAD", "CAUSALITY", "BAD_ROOT", "BAD_SIGNATURE"})
# What a batch may take from its signature to its receipt on a busy machine.
DELAY_S = 15.0


@dataclass(slots=True)
class Outcome:
    """Numbers of one run; all but those that say `sent` are read from the store.

    duplicates and forgeries count messages (signed batches), links the edges from an
    event to a parent, history_causality the imported commits dated before a parent.
    """

    events_sent: int = 0
    events_stored: int = 0
    duplicates_sent: int = 0
    duplicates_found: int = 0
    links_sent: int = 0
    links_resolved: int = 0
    links_unresolved: int = 0
    findings: dict[str, int] = field(default_factory=dict)
    history_commits: int = 0
    history_rows: int = 0
    history_causality: int = 0
    history_edges_back: int = 0
    live_causality: int = 0
    suspects: list[str] = field(default_factory=list)
    gaps: int = 0
    skew_seconds: float = 0.0
    clock_offset: float = 0.0
    forged_sent: int = 0
    forged_found: int = 0
    edited_rows: int = 0
    edited_rows_found: int = 0
    audit_findings: int = 0
    seconds: float = 0.0
    seconds_in_all: float = 0.0
    events_per_second: float = 0.0
    problems: list[str] = field(default_factory=list)

    def value(self) -> dict[str, Any]:
        """As the one line of JSON that the demo ends with."""
        return asdict(self)


def problems(
    outcome: Outcome, *, invoices: int, truth: Collection[str] | None, early: Collection[str] = ()
) -> list[str]:
    """What was not as it must be, in words; empty when all was.

    Args:
        outcome: what the run came to.
        invoices: events that name an event of the service with the wrong clock.
        truth: commits dated before a parent, where the repository's ground truth is known.
        early: those that were found.
    """
    o = outcome
    compared = (
        ("events stored", o.events_stored, o.events_sent),
        ("duplicates found", o.duplicates_found, o.duplicates_sent),
        ("links verified", o.links_resolved, o.links_sent),
        ("links unresolved", o.links_unresolved, 0),
        ("gaps", o.gaps, 0),
        ("commits with exactly one row", o.history_rows, o.history_commits),
        ("commits found before a parent", o.history_causality, o.history_edges_back),
        ("invoices found before their order", o.live_causality, invoices),
        ("forged messages found", o.forged_found, o.forged_sent),
        ("edited rows found", o.edited_rows_found, o.edited_rows),
        ("findings of the audit", o.audit_findings, o.edited_rows),
    )
    found = [
        f"{name}: {value}, not {wanted}" for name, value, wanted in compared if value != wanted
    ]
    if truth is not None and set(early) != set(truth):
        found.append(f"the ground truth knows {len(truth)} commits before a parent, and which")
    if invoices and o.suspects != ["orders"]:
        found.append(f"the wrong clock is put down to {o.suspects or 'nobody'}, not to orders")
    if not o.findings.get("AHEAD"):
        found.append("nobody noticed that the clock of orders is ahead")
    if abs(o.skew_seconds - o.clock_offset) > DELAY_S:
        found.append(f"its clock is {o.clock_offset} s ahead, {o.skew_seconds:.1f} s were measured")
    strange = sorted(set(o.findings) - EXPECTED)
    if strange:
        found.append(f"findings that nobody caused: {', '.join(strange)}")
    return found
