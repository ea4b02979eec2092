"""`sealtrail emit`: one event from the shell."""

from __future__ import annotations

import click

from sealtrail import ids
from sealtrail.cli import FAILED, Output, pass_output
from sealtrail.errors import EventError
from sealtrail.event import EventType

PRODUCER = click.option("--producer", required=True, help="Service identity (name or SPIFFE id).")


@click.command("emit")
@click.argument("activity")
@PRODUCER
@click.option(
    "--type",
    "event_type",
    type=click.Choice([t.value for t in EventType if t is not EventType.UNKNOWN]),
    default=EventType.CREATE.value,
    show_default=True,
)
@click.option("--input", "inputs", multiple=True, metavar="NAMESPACE:NAME[@VERSION]")
@click.option("--output", "outputs", multiple=True, metavar="NAMESPACE:NAME[@VERSION]")
@click.option("--attribute", "attributes", multiple=True, metavar="NAME=VALUE")
@click.option("--parent", "parents", multiple=True, help="ID.TIME.LEAF, as emit prints it.")
@click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait for the brokers.")
@pass_output
def emit_command(  # noqa: PLR0913 - click hands every option to the function
    output: Output,
    *,
    activity: str,
    producer: str,
    event_type: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    attributes: tuple[str, ...],
    parents: tuple[str, ...],
    timeout: float,
) -> int | None:
    """Emit one event, signed, and wait until the brokers have it."""
    from sealtrail_producer import reference
    from sealtrail_producer.trail import Trail

    causes = [reference.parse(p) for p in parents]
    trail = Trail.from_env(producer=producer)
    try:
        receipt = trail.emit(
            activity,
            event_type=event_type,
            inputs=[reference.entity(e) for e in inputs],
            outputs=[reference.entity(e) for e in outputs],
            attributes=dict(_pair(a) for a in attributes),
            parents=causes,
        )
        named = receipt.reference
    finally:
        sent = trail.close(timeout)
    output.data(
        {
            "event_id": ids.text(receipt.event_id),
            "reference": reference.format(named),
            "leaf_hash": named.leaf_hash.hex(),
            "sent": sent,
        }
    )
    if not sent:
        output.remark("the event is signed and waits in the spool: the brokers did not answer")
        return FAILED
    return None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise EventError(f"attribute {text!r} is not NAME=VALUE")
    return name, value
