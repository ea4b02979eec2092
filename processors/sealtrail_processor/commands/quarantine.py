"""`sealtrail quarantine`: what was refused, why, and what to do about it.

Looking changes nothing. Replaying and dismissing are acts of an operator: each is signed into the
control chain before it is done, and its outcome afterwards.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from sealtrail import control
from sealtrail.cli import OK, Output, pass_output
from sealtrail.cli.values import shown_time
from sealtrail.errors import ConfigurationError, SealtrailError
from sealtrail.event import EntityRef
from sealtrail.findings import Code
from sealtrail.identity import OPERATOR
from sealtrail.settings import load
from sealtrail.validate import Place
from sealtrail_processor.quarantine import dissect, originals
from sealtrail_processor.quarantine import held as quarantine
from sealtrail_processor.settings import WorkerSettings
from sealtrail_processor.store.ledger import StoreLedger
from sealtrail_processor.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail.control import Outcome
    from sealtrail.records import Directory
    from sealtrail_processor.quarantine.held import Entry, Held
    from sealtrail_processor.store.port import Store

COLUMNS = ("id", "arrival", "state", "code", "step", "bytes", "detail")
# One act takes so many messages at most; the rest is left for another.
ACT_MESSAGES = 10_000
# Of 2^64.
MOST_DIGITS = 20
ID_HINT = "ids are those of `sealtrail quarantine list`"


def finding(code: str) -> str:
    """A finding's code as people write it.

    Raises:
        click.BadParameter: nothing is called so.
    """
    if code.upper() not in Code.__members__:
        raise click.BadParameter(f"no finding is called {code!r}; docs/findings.md lists them")
    return code.upper()


def _code(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    del ctx, param
    return None if value is None else finding(value)


CODE = click.option("--code", callback=_code, help="All open messages with this finding.")
MESSAGES = click.argument("messages", nargs=-1, metavar="[MESSAGE]...")


@click.group("quarantine")
def quarantine_command() -> None:
    """Look at refused messages, send them again, or put them away."""


@quarantine_command.command("list")
@click.option("--code", callback=_code, help="Only this finding, such as UNKNOWN_KEY.")
@click.option("--all", "all_", is_flag=True, help="Also what was replayed or dismissed already.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@pass_output
def list_command(output: Output, code: str | None, all_: bool, limit: int) -> int:
    """List messages in quarantine, oldest first."""
    condition = "1" if all_ else quarantine.OPEN
    if code is not None:
        condition += " AND code = {code:String}"
    with closing(open_store(load(WorkerSettings))) as store:
        found = quarantine.entries(store, condition, {"code": code or ""}, limit=limit + 1)
    rows = [_row(entry) for entry in found[:limit]]
    if not output.json:
        rows = [(name, shown_time(at), *rest) for name, at, *rest in rows]
    output.table(COLUMNS, rows)
    if len(found) > limit:
        output.remark(f"more than {limit} messages; --limit shows more")
    return OK


@quarantine_command.command("show")
@click.argument("message")
@pass_output
def show_command(output: Output, message: str) -> int:
    """Show one message as far as it can be read, and what lies around it.

    MESSAGE is an id of `list`. All that is shown of envelope, statement and events is what the
    message says of itself; `judged_today` is what validation says with the records known now.
    """
    settings = load(WorkerSettings)
    with closing(open_store(settings)) as store:
        ((held,),) = quarantine.bodies(store, [_one(store, message)])
        gone = ""
        if not held.kept:
            try:
                (held,) = _originals(settings, store, [held])
            except SealtrailError as error:
                gone = error.message
        tenants = frozenset({settings.tenant, *settings.accept_tenants})
        place = Place(settings.environment, tenants, held.log.topic, held.log.partition)
        shown = dict(zip(COLUMNS, _row(held), strict=True))
        shown |= dissect.dissect(held, _directory(store, settings), place, now_us())
        shown |= dissect.around(store, held, shown.get("statement"))
        if gone:
            shown["unreadable"] = shown["next"] = gone
            shown.pop("judged_today", None)
    if output.json:
        output.data(shown)
    else:
        _tell(output, shown)
    return OK


@quarantine_command.command("replay")
@MESSAGES
@CODE
@pass_output
def replay_command(output: Output, messages: tuple[str, ...], code: str | None) -> int:
    """Send messages again, in the order of their arrival.

    They are judged anew by their first arrival, with the keys and schemas known now. Parked ones go
    by themselves once their key or schema is known.
    """
    from sealtrail_processor.kafka.beside import KafkaSide
    from sealtrail_processor.kafka.publisher import KafkaPublisher
    from sealtrail_processor.pipeline import wiring

    settings = load(WorkerSettings)
    config = wiring.kafka_config(settings, OPERATOR)
    with closing(open_store(settings)) as store:
        chosen = _chosen(output, store, messages, code)
        sent: list[tuple[str, int]] = []
        if chosen:
            with closing(KafkaSide(config, settings.group)) as broker:
                logs = {entry.log.topic: broker.log_id(entry.log.topic) for entry in chosen}
            with control.recorder()(_act("replay", chosen, code=code or "")) as outcome:
                publisher = KafkaPublisher(config)
                for held in quarantine.bodies(store, chosen):
                    whole = _originals(settings, store, held)
                    for h, offset in quarantine.release(store, publisher, whole, now_us()):
                        log = h.log
                        again = f"{logs[log.topic]}:{log.topic}:{log.partition}:{offset}"
                        outcome.results.append(EntityRef(control.QUARANTINE, again))
                        sent.append((h.name, offset))
            _remark(output, outcome)
    output.table(("id", "new_offset"), sent)
    return OK


@quarantine_command.command("dismiss")
@MESSAGES
@CODE
@click.option("--reason", required=True, help="Why, for the record; nothing personal.")
@pass_output
def dismiss_command(
    output: Output, messages: tuple[str, ...], code: str | None, reason: str
) -> int:
    """Put messages away: they are kept byte for byte, and no longer listed as open."""
    if not reason.strip():
        raise click.BadParameter("say why", param_hint="--reason")
    with closing(open_store(load(WorkerSettings))) as store:
        chosen = _chosen(output, store, messages, code)
        if chosen:
            act = _act("dismiss", chosen, code=code or "", reason=reason)
            with control.recorder()(act) as outcome:
                quarantine.dismiss(store, chosen, now_us())
            _remark(output, outcome)
    output.table(("id", "state"), [(entry.name, "dismissed") for entry in chosen])
    return OK


def now_us() -> int:
    """The time, microseconds since 1970."""
    from sealtrail_processor.pipeline import wiring

    return wiring.now_us()


def _originals(settings: WorkerSettings, store: Store, held: Sequence[Held]) -> list[Held]:
    """Messages with their bytes: those that were not kept are read from their topic.

    Raises:
        OriginalGone: not all are there.
    """
    from sealtrail_processor.kafka.beside import KafkaSide
    from sealtrail_processor.pipeline import wiring

    config = wiring.kafka_config(settings, OPERATOR)
    whole: list[Held] = []
    with closing(
        originals.Originals(lambda: KafkaSide(config, settings.group), StoreLedger(store))
    ) as found:
        while len(whole) < len(held):
            for h in found.first(held[len(whole) :]):
                if isinstance(h, originals.OriginalGone):
                    raise h
                whole.append(h)
    return whole


def _act(verb: str, chosen: Sequence[Entry], **details: str) -> control.Act:
    subjects = tuple(EntityRef(control.QUARANTINE, entry.name) for entry in chosen)
    given = {name: value for name, value in details.items() if value}
    return control.Act(f"quarantine.{verb}", subjects, given)


def _remark(output: Output, outcome: Outcome) -> None:
    if not outcome.sent:
        output.remark("the act is signed and waits in the spool: the brokers did not answer")


def _chosen(output: Output, store: Store, messages: Sequence[str], code: str | None) -> list[Entry]:
    """The messages that were named, each once, in the order of their arrival."""
    if not messages and code is None:
        raise click.UsageError("name messages, or a finding with --code")
    found = [_one(store, message) for message in messages]
    if code is not None:
        condition = f"{quarantine.OPEN} AND code = {{code:String}}"
        of_code = quarantine.entries(store, condition, {"code": code}, limit=ACT_MESSAGES + 1)
        if len(of_code) > ACT_MESSAGES:
            output.remark(f"the first {ACT_MESSAGES:,} of them; say it again for the rest")
        found += of_code[:ACT_MESSAGES]
    unique = {entry.coordinates: entry for entry in found}
    return sorted(unique.values(), key=lambda entry: (entry.arrival, entry.coordinates))


def place(name: str) -> tuple[str, str, int, int]:
    """What an id of `list` says: log, topic, partition and offset.

    Raises:
        ConfigurationError: it is none.
    """
    parts = name.rsplit(":", 3)
    if len(parts) != 4 or not all(p.isdecimal() and len(p) <= MOST_DIGITS for p in parts[2:]):
        raise ConfigurationError(f"{name[:300]!r} is no id of a message", hint=ID_HINT)
    log_id, topic, partition, offset = parts
    return log_id, topic, int(partition), int(offset)


def _one(store: Store, name: str) -> Entry:
    condition = (
        "log_id = {log_id:String} AND topic = {topic:String} "
        "AND partition = {partition:UInt16} AND offset = {offset:UInt64}"
    )
    at = place(name)
    where = dict(zip(("log_id", "topic", "partition", "offset"), at, strict=True))
    found = quarantine.entries(store, condition, where, limit=1)
    # Numbers too large for their columns wrap around to another message.
    if not found or found[0].coordinates != at:
        raise ConfigurationError(f"no message {name!r} in quarantine", hint=ID_HINT)
    return found[0]


def _directory(store: Store, settings: WorkerSettings) -> Directory | None:
    """Keys and schemas as they are known today, where the root is pinned."""
    from sealtrail_processor.pipeline import wiring

    try:
        return wiring.stored_directory(settings, store)
    except ConfigurationError:
        return None


def _row(entry: Entry) -> tuple[Any, ...]:
    shown = (entry.name, entry.arrival, entry.state, entry.code, entry.step, entry.size)
    return (*shown, entry.detail)


def _tell(output: Output, shown: dict[str, Any]) -> None:
    tables = {name: shown.pop(name, []) for name in ("neighbours", "chain", "acts", "events")}
    advice = shown.pop("next")
    shown["arrival"] = shown_time(shown["arrival"])
    for name in ("framing", "envelope", "statement"):
        part = shown.pop(name, None)
        if part is not None:
            shown |= {f"{name}.{field}": value for field, value in part.items()}
    output.data(shown)
    titles = {
        "events": "its first events, as it says",
        "neighbours": "around it in its partition",
        "chain": "accepted batches of the chain that it names",
        "acts": "what was done about it",
    }
    for name, title in titles.items():
        rows = tables[name]
        if rows:
            output.line()
            columns = list(dict.fromkeys(column for row in rows for column in row))
            cells = [tuple(_cell(column, row.get(column)) for column in columns) for row in rows]
            output.table(columns, cells, title=title)
    output.line()
    output.line(f"next: {advice}", style="bold")


def _cell(column: str, value: Any) -> Any:
    return shown_time(value) if column in {"arrival", "at"} and isinstance(value, int) else value
