"""`sealtrail topics`: the topics as deploy/kafka/topics.yaml declares them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sealtrail import resources
from sealtrail.cli import FINDINGS, OK, Output, pass_output
from sealtrail.identity import ADMIN
from sealtrail.settings import load
from sealtrail_processor.kafka import topics
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail_processor.kafka.admin import KafkaAdmin

COLUMNS = ("act", "topic", "what", "now", "wanted", "why")
FILE = click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Instead of the topics.yaml that comes with Sealtrail.",
)


@click.group("topics")
def topics_command() -> None:
    """Compare the topics of the cluster with what is declared, and make them so."""


@topics_command.command("plan")
@FILE
@pass_output
def plan_command(output: Output, file: Path | None) -> int:
    """Show what `apply` would do; exit code 1 if there is any difference."""
    wanted = _wanted(file)
    steps = topics.plan(wanted, _found(wanted)[1])
    return _show(output, steps, f"{len(wanted)} topics are as declared")


@topics_command.command("apply")
@FILE
@pass_output
def apply_command(output: Output, file: Path | None) -> int:
    """Make topics and set their settings; exit code 1 if something is left that it refuses.

    Nothing is deleted, no partition is taken away, no retention shortened.
    """
    wanted = _wanted(file)
    admin, found = _found(wanted)
    steps = topics.plan(wanted, found)
    admin.apply(steps, wanted)
    _show(output, steps, f"{len(wanted)} topics are as declared")
    return FINDINGS if any(step.act is topics.Act.REFUSE for step in steps) else OK


def _wanted(file: Path | None) -> list[topics.Topic]:
    source = file or resources.path("kafka", "topics.yaml")
    return topics.read(source.read_text(encoding="utf-8"), load(WorkerSettings))


def _found(wanted: Sequence[topics.Topic]) -> tuple[KafkaAdmin, dict[str, topics.Topic]]:
    from sealtrail_processor.kafka.admin import KafkaAdmin
    from sealtrail_processor.pipeline import wiring

    admin = KafkaAdmin(wiring.kafka_config(load(WorkerSettings), ADMIN))
    return admin, admin.topics([topic.name for topic in wanted])


def _show(output: Output, steps: Sequence[topics.Step], fine: str) -> int:
    if not steps and not output.json:
        output.line(fine)
        return OK
    rows = [(s.act.value, s.topic, s.what, s.now, s.wanted, s.why) for s in steps]
    output.table(COLUMNS, rows)
    return FINDINGS if steps else OK
