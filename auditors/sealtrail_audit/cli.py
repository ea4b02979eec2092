"""Commands of this room: sql, event, lineage; `audit_cli` has the audits."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from typing import Any

import click

from sealtrail import ids
from sealtrail.cli import FINDINGS, OK, Output, pass_output
from sealtrail.cli.output import printable
from sealtrail.settings import load
from sealtrail_audit import events, graph, lineage
from sealtrail_audit import sql as sql_text
from sealtrail_audit.reader import connect
from sealtrail_audit.settings import AuditSettings
from sealtrail_audit.trust import load_trust, trust_root


@click.command("sql")
@click.argument("query")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="How the answer is written.",
)
@click.option(
    "--param", "-p", "params", multiple=True, metavar="NAME=VALUE", help="Bind {NAME:Type}."
)
@click.option("--limit", type=click.IntRange(min=0), help="Most rows to show; 0 for all.")
@pass_output
def sql_command(
    output: Output, query: str, format_: str, params: tuple[str, ...], limit: int | None
) -> int:
    """Ask the store a question in SQL, as the analyst, who may only read.

    \b
    Views for people are in the database provenance:
      sealtrail sql "SELECT * FROM provenance.open_findings"
      sealtrail sql "SELECT count() FROM provenance.events WHERE producer = {p:String}" -p p=orders
    """  # noqa: D301 - \b is click's mark for lines that it must not fill
    bound = sql_text.parameters(params)
    settings = load(AuditSettings)
    with closing(connect(settings)) as reader:
        answer = reader.answer(query, bound, settings.query_rows if limit is None else limit)
    if format_ == "csv" and not output.json:
        text = sql_text.as_csv(answer)
        # A file gets the values as they are; a terminal would obey what strangers wrote.
        click.echo(sql_text.for_terminal(text) if sys.stdout.isatty() else text, nl=False)
    else:
        Output(json=output.json or format_ == "json").table(answer.columns, answer.rows)
    if answer.cut:
        output.remark(sql_text.cut_note(answer))
    return OK


@click.group("event")
def event_command() -> None:
    """Show an event with its proof."""


@event_command.command("show")
@click.argument("event_id", metavar="ID")
@pass_output
def show_command(output: Output, event_id: str) -> int:
    """Show an event, verified anew from the signed bytes that the store keeps.

    Ends with 1 if something does not hold.
    """
    wanted = ids.from_text(event_id)
    settings = load(AuditSettings)
    root = trust_root(settings.trust_root)
    with closing(connect(settings)) as reader:
        trust = load_trust(reader, root)
        shown = events.show(reader, settings.environment, trust, wanted)
    if output.json:
        output.data(shown)
    else:
        for entry in shown:
            _show_event(output, entry)
    return OK if all(entry["proof"]["verified"] for entry in shown) else FINDINGS


def _show_event(output: Output, entry: dict[str, Any]) -> None:
    proof = entry["proof"]
    output.line(f"event {entry['id']}", style="bold")
    output.data({f"  {k}": v for k, v in (entry["event"] or {}).items() if v not in (None, [], {})})
    output.line("position", style="bold")
    output.data({f"  {k}": v for k, v in entry["position"].items()})
    output.line("proof", style="bold")
    if proof["verified"]:
        output.line(
            f"  VERIFIED: signatures, keys, schema and root of batch {proof['batch_seq']} hold;"
            f" leaf {proof['index']} of {proof['events_in_batch']} is included",
            style="green",
        )
    for problem in proof["problems"]:
        output.line(f"  NOT VERIFIED: {printable(problem)}", style="red")
    hidden = ("verified", "problems", "path", "index", "events_in_batch")
    output.data({f"  {k}": v for k, v in proof.items() if k not in hidden})
    output.line(f"parents {len(entry['parents'])}, children {entry['children']}", style="bold")
    for parent in entry["parents"]:
        output.line(f"  {printable(parent['id'])}  {parent['occurred_at']}  {parent['verdict']}")


@click.command("lineage")
@click.argument("entity_or_event")
@click.option("--up/--down", "up", default=True, help="Towards causes (default), or consequences.")
@click.option("--depth", type=click.IntRange(0, 10_000), default=5, show_default=True)
@click.option("--max-events", type=click.IntRange(min=1), help="Most events to show.")
@pass_output
def lineage_command(
    output: Output, entity_or_event: str, up: bool, depth: int, max_events: int | None
) -> int:
    """Show where something came from, or what became of it.

    An event is written as its id, an entity as namespace/name, namespace/name@version or name.
    """
    settings = load(AuditSettings)
    most = max_events or settings.lineage_nodes
    with closing(connect(settings)) as reader:
        source = graph.StoreSource(reader)
        event_id = graph.event_id_of(entity_or_event)
        title = entity_or_event
        if event_id is None:
            entity = source.resolve(entity_or_event)
            title = str(entity)
            start = source.writers(entity, up=up, limit=most + 1)
        else:
            start = [event_id]
        end = time.monotonic() + settings.lineage_seconds
        found = lineage.walk(
            source,
            start,
            up=up,
            depth=depth,
            max_nodes=most,
            time_is_up=lambda: time.monotonic() > end,
        )
    if output.json:
        output.data({"of": title} | found.value())
        return OK
    output.line(printable(title), style="bold")
    for line in lineage.lines(found):
        output.line(line.prefix + _node_text(line))
    for note in found.notes:
        output.line(f"note: {note}", style="yellow")
    return OK


def _node_text(line: lineage.Line) -> str:
    node = line.node
    name = ids.text(node.event_id)
    verdict = f" [{line.verdict}]" if line.verdict else ""
    if not node.stored:
        return f"{name}{verdict} (not in the store)"
    if line.again:
        return f"{name}{verdict} (see above)"
    about = f"{node.event_type} {printable(node.activity)} by {printable(node.producer)}"
    out = [printable(str(e)) for e in node.outputs[:3]]
    more = f" and {len(node.outputs) - 3} more" if len(node.outputs) > 3 else ""
    makes = f" -> {', '.join(out)}{more}" if out else ""
    return f"{name}{verdict} {node.occurred_at} {about}{makes}"
