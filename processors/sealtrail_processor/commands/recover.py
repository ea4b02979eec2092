"""`sealtrail recover`: the store rebuilt from the topic, its index from the payloads."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import click

from sealtrail import control
from sealtrail.cli import FINDINGS, OK, Output, pass_output
from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail.event import EntityRef
from sealtrail.settings import load
from sealtrail.validate import Place
from sealtrail_processor.settings import WorkerSettings
from sealtrail_processor.store import recover
from sealtrail_processor.store.opening import open_store

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sealtrail_processor.judging.model import Log


STOPPED = click.option(
    "--workers-stopped",
    is_flag=True,
    help="No worker runs; for brokers that do not say who is in a group.",
)


@click.group("recover")
def recover_command() -> None:
    """Rebuild what can be derived. Workers must be stopped; take a backup first."""


@recover_command.command("index")
@STOPPED
@pass_output
def index_command(output: Output, *, workers_stopped: bool) -> int:
    """Empty events, edges and entities, and write them anew from the stored payloads.

    Every payload is verified again. Broken off, run it again: readers see less meanwhile, never
    anything wrong. Ends with 1 if a payload does not verify; it is named and left out.
    """
    from sealtrail_processor.pipeline import wiring
    from sealtrail_processor.store.sink import ClickHouseSink

    settings = load(WorkerSettings)
    _nobody_works(settings, stopped=workers_stopped)
    tenants = frozenset({settings.tenant, *settings.accept_tenants})

    def place(log: Log) -> Place:
        return Place(settings.environment, tenants, log.topic, log.partition)

    with ExitStack() as opened:
        store = opened.enter_context(closing(open_store(settings)))
        directory = wiring.stored_directory(settings, store)
        opened.enter_context(_on_record("recover.index", settings))
        total = store.query(
            "SELECT count() FROM committed_dispositions"
            " WHERE disposition IN ('accepted', 'released')"
        )
        recover.empty(store, recover.INDEX)
        step = opened.enter_context(output.progress("messages", total[0][0]))
        sink = ClickHouseSink(store, secrets.randbits)
        done = recover.index(store, sink, directory, place, step)
    for name in done.unverified:
        output.remark(f"left out, it does not verify: {name}")
    output.data(
        {"messages": done.messages, "events": done.events, "unverified": len(done.unverified)}
    )
    return FINDINGS if done.unverified else OK


@recover_command.command("topic")
@STOPPED
@click.option("--accept-loss", is_flag=True, help="Go on though the log lacks what the store has.")
@pass_output
def topic_command(output: Output, *, workers_stopped: bool, accept_loss: bool) -> int:
    """Empty all that is derived from the log; workers, started then, read it from its start.

    Kept are receipts, key records, and what was done with quarantined messages. Refuses when the
    log no longer holds what the store has committed, for that would be lost.
    """
    from sealtrail_processor.kafka.beside import KafkaSide
    from sealtrail_processor.pipeline import wiring

    settings = load(WorkerSettings)
    _nobody_works(settings, stopped=workers_stopped)
    with ExitStack() as opened:
        store = opened.enter_context(closing(open_store(settings)))
        broker = opened.enter_context(
            closing(KafkaSide(wiring.kafka_config(settings), settings.group))
        )
        lacking = recover.lacking(store, broker, settings.topic)
        if lacking and not accept_loss:
            raise ConfigurationError(
                f"the log lacks what the store has: {'; '.join(lacking[:5])}",
                hint="restore a backup instead, or say --accept-loss",
            )
        opened.enter_context(_on_record("recover.topic", settings))
        recover.empty(store, recover.DERIVED)
    output.data({"emptied": list(recover.DERIVED), "lost": lacking})
    output.remark("start the workers: they read the log from its start (sealtrail store status)")
    return OK


def _on_record(activity: str, settings: WorkerSettings) -> AbstractContextManager[object]:
    subject = EntityRef(control.STORE, settings.store_database)
    return control.recorder()(control.Act(activity, (subject,)))


def _nobody_works(settings: WorkerSettings, *, stopped: bool) -> None:
    if stopped:
        return
    from sealtrail_processor.kafka.admin import KafkaAdmin
    from sealtrail_processor.pipeline import wiring

    try:
        members = KafkaAdmin(wiring.kafka_config(settings)).members(settings.group)
    except UnavailableError as error:
        raise UnavailableError(
            f"it is not known whether workers run: {error.message}",
            hint="stop them, and say --workers-stopped",
        ) from None
    if members:
        raise ConfigurationError(
            f"{members} workers of group {settings.group} run", hint="stop them first"
        )
