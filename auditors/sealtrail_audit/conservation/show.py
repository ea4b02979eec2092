"""How the report of a conservation check is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealtrail.cli.output import printable

if TYPE_CHECKING:
    from sealtrail.cli import Output
    from sealtrail_audit.conservation.law import Difference, Report, Tally


def value(report: Report, seconds: float) -> dict[str, Any]:
    """A report as plain values, for JSON."""
    return {
        "holds": report.holds,
        "consumed": report.consumed,
        "dispositions": report.dispositions,
        "events": report.events,
        "skipped": sum(t.skipped for t in report.tallies),
        "overlaps": report.overlaps,
        "partitions": [_tally(t) for t in report.tallies],
        "differences": [_difference(d) for d in report.differences],
        # There is none yet; once there is, it is held against the store here.
        "transparency_log": None,
        "notes": report.notes,
        "seconds": round(seconds, 3),
    }


def _tally(tally: Tally) -> dict[str, Any]:
    side = tally.side
    return {
        "log_id": tally.place.log_id,
        "topic": tally.place.topic,
        "partition": tally.place.partition,
        "checked_from": tally.checked + 1,
        "committed": tally.end,
        "consumed": tally.consumed,
        "skipped": tally.skipped,
        "dispositions": {k: v for k, v in tally.fates.items() if v},
        "events": tally.events,
        "group": None if side is None else side.group,
        "log_start": None if side is None else side.start,
        "log_end": None if side is None else side.end,
        "behind": tally.behind,
    }


def _difference(found: Difference) -> dict[str, Any]:
    place = found.place
    return {
        "law": str(found.law),
        "log_id": None if place is None else place.log_id,
        "topic": None if place is None else place.topic,
        "partition": None if place is None else place.partition,
        "detail": found.detail,
        "count": found.count,
        "examples": list(found.examples),
    }


def show(output: Output, report: Report, seconds: float) -> None:
    """Write a report."""
    if output.json:
        output.data(value(report, seconds))
        return
    for found in report.differences:
        output.line(printable(str(found)), style="red")
    for note in report.notes:
        output.line(f"note: {printable(note)}", style="yellow")
    columns = ("topic", "partition", "log", "from", "committed", "consumed", "events", "behind")
    output.table(
        columns,
        [
            (
                *(t.place.topic, t.place.partition, t.place.log_id, t.checked + 1),
                *(t.end, t.consumed, t.events, "not asked" if t.behind is None else t.behind),
            )
            for t in report.tallies
        ],
    )
    fates = " + ".join(f"{count} {fate}" for fate, count in report.dispositions.items())
    output.line(f"{report.consumed} consumed = {fates}")
    seen = f"{report.events} events, {len(report.tallies)} logs, {seconds:.1f} s"
    if report.holds:
        output.line(f"holds: {seen}", style="green")
    else:
        count = len(report.differences)
        output.line(f"DOES NOT HOLD: {count} differences ({seen})", style="bold red")
