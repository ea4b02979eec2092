"""`sealtrail worker`, `quarantine`, `store` and `topics`."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from sealtrail import avro
from sealtrail.batch import SignedBatch, unframe
from sealtrail.cli import OK, Output, pass_output
from sealtrail.errors import ConfigurationError, ContractError
from sealtrail.settings import load
from sealtrail_processor import quarantine
from sealtrail_processor.settings import WorkerSettings
from sealtrail_processor.store_cli import open_store, store_command
from sealtrail_processor.topics_cli import topics_command

if TYPE_CHECKING:
    from sealtrail_processor.quarantine import Held
    from sealtrail_processor.store import Store

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS = ("id", "arrival", "state", "code", "step", "bytes", "detail")

__all__ = ["quarantine_command", "store_command", "topics_command", "worker_command"]


@click.command("worker")
def worker_command() -> None:
    """Run a worker: validate, place, link and store what producers signed.

    It ends with 0 when it was asked to (SIGTERM, SIGINT), else with 3: start it anew then, it goes
    on where the store's commits end.
    """
    from sealtrail_processor import wiring

    wiring.run()


@click.group("quarantine")
def quarantine_command() -> None:
    """Look at refused messages, and send them again."""


@quarantine_command.command("list")
@click.option("--code", help="Only this finding, such as UNKNOWN_KEY.")
@click.option("--all", "all_", is_flag=True, help="Also what was released already.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@pass_output
def list_command(output: Output, code: str | None, all_: bool, limit: int) -> int:
    """List messages in quarantine, oldest first."""
    condition = "1" if all_ else quarantine.OPEN
    if code is not None:
        condition += " AND code = {code:String}"
    with closing(_store()) as store:
        held = quarantine.find(store, condition, {"code": code or ""}, limit=limit)
    rows = [_row(h) for h in held]
    if not output.json:
        rows = [(name, _EPOCH + timedelta(microseconds=at), *rest) for name, at, *rest in rows]
    output.table(COLUMNS, rows)
    return OK


@quarantine_command.command("show")
@click.argument("message")
@pass_output
def show_command(output: Output, message: str) -> int:
    """Show one message as far as it can be decoded. MESSAGE is an id of `list`."""
    with closing(_store()) as store:
        held = _one(store, message)
    output.data(dict(zip(COLUMNS, _row(held), strict=True)) | decoded(held))
    return OK


@quarantine_command.command("release")
@click.argument("messages", nargs=-1)
@click.option("--code", help="All open messages with this finding.")
@pass_output
def release_command(output: Output, messages: tuple[str, ...], code: str | None) -> int:
    """Send messages again, in the order of their arrival; they are judged anew.

    Parked messages go by themselves once their key or schema is known.
    """
    from sealtrail_processor import wiring
    from sealtrail_processor.kafka_io import KafkaPublisher

    if not messages and code is None:
        raise click.UsageError("name messages, or a finding with --code")
    settings = load(WorkerSettings)
    publisher = KafkaPublisher(wiring.kafka_config(settings))
    with closing(_store(settings)) as store:
        held = [_one(store, m) for m in messages]
        if code is not None:
            condition = f"{quarantine.OPEN} AND code = {{code:String}}"
            held += quarantine.find(store, condition, {"code": code}, limit=10_000)
        unique = {h.coordinates: h for h in held}
        ordered = sorted(unique.values(), key=lambda h: (h.arrival, h.coordinates))
        sent = quarantine.release(store, publisher, ordered, wiring.now_us())
    output.table(("id", "new_offset"), [(_name(h), offset) for h, offset in sent])
    return OK


def decoded(held: Held) -> dict[str, Any]:
    """What can be read of a message: its envelope, and the statement that nobody need believe."""
    found: dict[str, Any] = {"key": held.key, "headers": [[n, v] for n, v in held.headers]}
    if held.value is None:
        return found
    try:
        schema_id, body = unframe(held.value)
        found["schema_id"] = schema_id
        envelope = SignedBatch.decode(body)
    except ContractError as error:
        return found | {"unreadable": error.message, "value": held.value[:4096]}
    found |= {
        "payload_type": envelope.payload_type,
        "signatures": len(envelope.signatures),
        "events": len(envelope.events),
    }
    for name in ("BatchStatement", "Heartbeat"):
        try:
            found["statement"] = avro.codec(name).decode(envelope.statement)
            break
        except ContractError as error:
            found["statement_unreadable"] = error.message
    else:
        return found
    found.pop("statement_unreadable", None)
    return found


def _row(held: Held) -> tuple[Any, ...]:
    size = len(held.value or b"")
    return (_name(held), held.arrival, held.disposition, held.code, held.step, size, held.detail)


def _name(held: Held) -> str:
    log = held.log
    return f"{log.log_id}:{log.topic}:{log.partition}:{held.offset}"


def _one(store: Store, name: str) -> Held:
    hint = "ids are those of `sealtrail quarantine list`"
    parts = name.rsplit(":", 3)
    if len(parts) != 4 or not parts[2].isdecimal() or not parts[3].isdecimal():
        raise ConfigurationError(f"{name!r} is no id of a message", hint=hint)
    condition = (
        "log_id = {log_id:String} AND topic = {topic:String} "
        "AND partition = {partition:UInt16} AND offset = {offset:UInt64}"
    )
    where = {
        "log_id": parts[0],
        "topic": parts[1],
        "partition": int(parts[2]),
        "offset": int(parts[3]),
    }
    found = quarantine.find(store, condition, where)
    if not found:
        raise ConfigurationError(f"no message {name!r} in quarantine", hint=hint)
    return found[0]


def _store(settings: WorkerSettings | None = None) -> Any:
    return open_store(load(WorkerSettings) if settings is None else settings)
