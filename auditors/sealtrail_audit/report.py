"""How the report of an audit is written."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sealtrail.cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail.cli import Output
    from sealtrail_audit.store.compare import Finding
    from sealtrail_audit.store.manifest import Difference, Manifest
    from sealtrail_audit.store.run import Report

# Findings that are written for people; --json writes all that were kept.
_MOST_LINES = 100
_LONGEST = 120


def value(report: Report, seconds: float) -> dict[str, Any]:
    """A report as plain values, for JSON."""
    return {
        "clean": report.clean,
        "messages": report.messages,
        "batches": report.batches,
        "events": report.events,
        "chains": report.chains,
        "unchecked_events": report.unchecked,
        "counts": dict(report.counts),
        "findings": [finding_value(finding) for finding in report.findings],
        "findings_left_out": sum(report.counts.values()) - len(report.findings),
        "notes": report.notes,
        "seconds": round(seconds, 3),
    }


def finding_value(finding: Finding) -> dict[str, Any]:
    """A finding as plain values; bytes become hex where it is written."""
    return {
        "code": str(finding.code),
        "table": finding.table,
        "key": _plain(dict(finding.key)),
        "column": finding.column,
        "stored": _plain(finding.stored),
        "computed": _plain(finding.computed),
        "detail": finding.detail,
    }


def _plain(value: Any) -> Any:
    """Text that was read as bytes becomes text again; other bytes become hex."""
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return value.hex()
        return text if text.isprintable() else value.hex()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def show(output: Output, report: Report, seconds: float) -> None:
    """Write a report."""
    if output.json:
        output.data(value(report, seconds))
        return
    for finding in report.findings[:_MOST_LINES]:
        output.line(line(finding), style="red")
    hidden = sum(report.counts.values()) - min(len(report.findings), _MOST_LINES)
    if hidden > 0:
        output.line(f"... and {hidden} more; --json writes up to {len(report.findings)}")
    for note in report.notes:
        output.line(f"note: {printable(note)}", style="yellow")
    seen = (
        f"{report.events} events in {report.batches} batches of {report.chains} chains,"
        f" {report.messages} messages, {seconds:.1f} s"
    )
    if report.clean:
        output.line(f"clean: {seen}", style="green")
    else:
        counts = ", ".join(f"{code} {count}" for code, count in sorted(report.counts.items()))
        output.line(f"FINDINGS: {counts} ({seen})", style="bold red")


def show_restored(
    output: Output,
    expected: Manifest,
    differences: Sequence[Difference],
    report: Report,
    seconds: float,
) -> None:
    """Write how a restored store differs from its manifest, then the audit's report."""
    if output.json:
        told = [asdict(difference) for difference in differences]
        output.data({"differences": told, "audit": value(report, seconds)})
        return
    for difference in differences[:_MOST_LINES]:
        where = printable(difference.where)
        was, is_now = _short(difference.expected), _short(difference.found)
        output.line(f"{where}: {was} in the manifest, {is_now} in the store", style="red")
    if len(differences) > _MOST_LINES:
        output.line(f"... and {len(differences) - _MOST_LINES} more; --json writes all")
    if not differences:
        rows = sum(held.rows for held in expected.tables)
        output.line(f"complete: {rows} rows, {len(expected.chains)} chain heads", style="green")
    show(output, report, seconds)


def line(finding: Finding) -> str:
    """A finding in one line: code, table, what names the row, what differs."""
    shown = finding_value(finding)
    key = " ".join(f"{name}={printable(item)}" for name, item in shown["key"].items())
    parts = [f"{shown['code']} {finding.table}".rstrip(), key]
    if finding.column:
        stored, computed = _short(shown["stored"]), _short(shown["computed"])
        parts.append(f"{finding.column}: stored {stored}, computed {computed}")
    if finding.detail:
        parts.append(printable(finding.detail))
    return "  ".join(parts)


def _short(value: Any) -> str:
    text = printable(value) if value is not None else "nothing"
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
