"""`sealtrail schemas`: this version's schemas on the registry."""

from __future__ import annotations

import click

from sealtrail.cli import Output, pass_output
from sealtrail.identity import OPERATOR
from sealtrail.settings import load
from sealtrail.validate import event_subject
from sealtrail_producer.registration import Registration
from sealtrail_producer.settings import ProducerSettings


@click.group("schemas")
def schemas_command() -> None:
    """Look after the schemas on the registry."""


@schemas_command.command("register")
@pass_output
def register_command(output: Output) -> None:
    """Register this version's schemas, unless they are there.

    Producers that find them need no right to register (deploy/kafka/access.yaml).
    """
    from sealtrail_producer import kafka

    settings = load(ProducerSettings)
    ids = Registration(
        lambda: kafka.KafkaRegistry(settings, OPERATOR),
        settings.topic,
        settings.state_dir / "registry-ids.json",
        settings.registry_url,
    ).ask()
    subjects = (f"{settings.topic}-value", event_subject(settings.topic))
    output.table(("subject", "id"), list(zip(subjects, (ids.batch, ids.event), strict=True)))
