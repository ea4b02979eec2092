"""`sealtrail keys exposure`: what a compromised key signed, and what came of it."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from sealtrail import ids
from sealtrail.cli import FINDINGS, OK, Output, pass_output
from sealtrail.cli.output import printable
from sealtrail.cli.values import FINGERPRINT, MOMENT, shown_time
from sealtrail.settings import load
from sealtrail_audit.exposure import Examiner, Exposure, Limits, window
from sealtrail_audit.graph import StoreSource
from sealtrail_audit.reader import connect
from sealtrail_audit.settings import AuditSettings
from sealtrail_audit.trust import load_trust, trust_root

_TIMES = ("first_arrival", "last_arrival")


@click.command("exposure")
@click.argument("fingerprint", type=FINGERPRINT)
@click.option(
    "--since",
    type=MOMENT,
    help="Not to be trusted from then on, as 2026-11-25T19:00:00Z; by default what was declared "
    "when it was revoked as COMPROMISED, else the key's whole life.",
)
@click.option("--max-events", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True)
@click.option("--max-chains", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option("--max-entities", type=click.IntRange(1, 100_000), default=100, show_default=True)
@pass_output
def exposure_command(  # noqa: PLR0913 - click hands every option to the function
    output: Output,
    *,
    fingerprint: bytes,
    since: int | None,
    max_events: int,
    max_chains: int,
    max_entities: int,
) -> int:
    """Show what a key signed, when it arrived, and everything that was built on it.

    Exposed is what was accepted from the compromise on: a thief may have signed it. Ends with 1 if
    anything is.
    """
    settings = load(AuditSettings)
    root = trust_root(settings.trust_root)
    with closing(connect(settings)) as reader:
        directory = load_trust(reader, root).directory
        record, window_ = window(directory, fingerprint, since)
        limits = Limits(max_chains, max_entities, max_events)
        found = Examiner(reader, StoreSource(reader), directory, limits).report(record, window_)
    if output.json:
        output.data(value(found))
    else:
        _tell(output, found)
    return FINDINGS if found.exposed else OK


def value(found: Exposure) -> dict[str, Any]:
    """The report as plain values, times with their zone."""
    record, window_ = found.record, found.window
    end = record.revocation
    return {
        "fingerprint": record.fingerprint,
        "producer": record.producer,
        "tenant": record.tenant,
        "environment": record.environment,
        "end": "" if end is None else end.reason,
        "since": shown_time(window_.since),
        "because": window_.why,
        "revocation_in_force": None if window_.in_force is None else shown_time(window_.in_force),
        **{name: _timed(total) for name, total in found.totals.items()},
        "refused": _timed(found.refused),
        "chains": [_timed(chain) for chain in found.chains],
        "chains_left_out": found.chains_left_out,
        "downstream": {
            "events": len(found.downstream_events),
            "complete": found.downstream_complete,
            "producers": found.downstream,
            "event_ids": [ids.text(event_id) for event_id in found.downstream_events],
        },
        "entities": [
            {"namespace": namespace, "name": name, "events": events}
            for namespace, name, events in found.entities
        ],
        "entities_left_out": found.entities_left_out,
    }


def _tell(output: Output, found: Exposure) -> None:
    shown = value(found)
    entities, chains = shown.pop("entities"), shown.pop("chains")
    downstream = shown.pop("downstream")
    for name in ("before", "exposed", "cosigned", "refused"):
        shown[name] = _sentence(shown[name])
    left_out = {name: shown.pop(name) for name in ("chains_left_out", "entities_left_out")}
    output.data(shown)
    if chains:
        output.line()
        columns = list(dict.fromkeys(name for chain in chains for name in chain))
        rows = [tuple(chain.get(name, "") for name in columns) for chain in chains]
        output.table(columns, rows, title="chains that it signed")
    if found.exposed:
        output.line()
        more = "" if downstream["complete"] else " at least (the limit was reached)"
        output.line(f"{downstream['events']} events downstream{more}", style="bold")
        output.table(("producer", "events"), list(downstream["producers"].items()))
        output.line()
        rows = [(e["namespace"], e["name"], e["events"]) for e in entities]
        output.table(
            ("namespace", "name", "events"), rows, title="written by exposed or downstream events"
        )
        style, verdict = "bold red", f"{found.exposed} events of this key may be a thief's"
    else:
        style, verdict = "bold green", "nothing that was accepted is exposed"
    for name, count in left_out.items():
        if count:
            output.remark(f"{count} {name.partition('_')[0]} are left out")
    output.line()
    output.line(printable(verdict), style=style)


def _sentence(total: dict[str, Any]) -> str:
    counts = ", ".join(f"{n} {name}" for name, n in total.items() if name not in _TIMES)
    times = [total[name].isoformat() for name in _TIMES if name in total]
    return f"{counts}, arrived {times[0]} to {times[1]}" if times else counts


def _timed(values: dict[str, Any]) -> dict[str, Any]:
    return {name: shown_time(v) if name in _TIMES else v for name, v in values.items()}
