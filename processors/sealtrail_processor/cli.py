"""`sealtrail worker`, `quarantine`, `recover`, `store` and `topics`."""

from __future__ import annotations

import click

from sealtrail_processor.acls_cli import acls_command
from sealtrail_processor.quarantine_cli import quarantine_command
from sealtrail_processor.recover_cli import recover_command
from sealtrail_processor.store_cli import store_command
from sealtrail_processor.topics_cli import topics_command

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
    from sealtrail_processor import wiring

    wiring.run()
