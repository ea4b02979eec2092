"""`sealtrail worker`, `quarantine`, `recover`, `store` and `topics`."""

from __future__ import annotations

import click

from sealtrail_processor.commands.acls import acls_command
from sealtrail_processor.commands.quarantine import quarantine_command
from sealtrail_processor.commands.recover import recover_command
from sealtrail_processor.commands.store import store_command
from sealtrail_processor.commands.topics import topics_command

__all__ = [
    "acls_command",
    "quarantine_command",
    "recover_command",
    "store_command",
    "topics_command",
    "worker_command",
]


@click.command("worker")
def worker_command() -> None:
    """Run a worker: validate, place, link and store what producers signed.

    It ends with 0 when it was asked to (SIGTERM, SIGINT), else with 3: start it anew then, it goes
    on where the store's commits end.
    """
    from sealtrail_processor.pipeline import wiring

    wiring.run()
