"""`sealtrail keys`: make, register, rotate, revoke and show signing keys."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sealtrail import control
from sealtrail.cli import Output, pass_output
from sealtrail.cli.lazy import LazyGroup
from sealtrail.cli.values import FINGERPRINT, MOMENT, shown_time
from sealtrail.errors import ConfigurationError, ContractError
from sealtrail.keys import Algorithm
from sealtrail.records import Directory, KeyRecord, SignedRecord
from sealtrail.settings import load
from sealtrail_producer import keys_root_cli, rotation, signing
from sealtrail_producer.authority import Authority, kafka_pairs
from sealtrail_producer.desk import Desk, now_us
from sealtrail_producer.keyring import Keyring, default_file
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sealtrail.dsse import Signer

PRODUCER = click.option("--producer", required=True, help="Service identity (name or SPIFFE id).")
ALGORITHM = click.option(
    "--algorithm",
    type=click.Choice([a.value for a in Algorithm]),
    default=Algorithm.ED25519.value,
    show_default=True,
)


def _elsewhere() -> list[EntryPoint]:
    """Commands about keys that other rooms bring (`exposure` asks the store)."""
    return list(entry_points(group="sealtrail.commands.keys"))


class _Keys(LazyGroup):
    """The group's own commands and those of other rooms, in one list."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them without importing another room."""
        del ctx  # part of click's signature
        rows = [(name, command.get_short_help_str(80)) for name, command in self.commands.items()]
        rows += [(point.name, _HELP.get(point.name, "")) for point in _elsewhere()]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))


_HELP = {"exposure": "Show what a compromised key signed, and what came of it."}


@click.group("keys", cls=_Keys, points=_elsewhere)
def keys_command() -> None:
    """Make, register, rotate, revoke and show signing keys."""


for _command in (
    keys_root_cli.init_root,
    keys_root_cli.root_command,
    keys_root_cli.sign,
    keys_root_cli.publish,
    keys_root_cli.public,
):
    keys_command.add_command(_command)


@keys_command.command("new")
@PRODUCER
@ALGORITHM
@click.option(
    "--file", type=click.Path(path_type=Path), help="Default: where the SDK looks for it."
)
@pass_output
def new(output: Output, *, producer: str, algorithm: str, file: Path | None) -> None:
    """Make a producer's key, encrypted.

    The passphrase is SEALTRAIL_KEY_PASSPHRASE, else a fresh one in a file beside the key. With an
    Ed25519 and an ML-DSA-44 key a producer signs with both.
    """
    settings = load(ProducerSettings)
    kind = Algorithm(algorithm)
    place = file or default_file(settings, producer, kind)
    signer = signing.new_file(place, settings.key_passphrase.get_secret_value(), kind)
    output.data(
        {
            "producer": producer,
            "key_file": str(place),
            "algorithm": str(signer.public_key.algorithm),
            "fingerprint": signer.public_key.fingerprint.hex(),
        }
    )


def _signers(settings: ProducerSettings, producer: str) -> Sequence[Signer]:
    if producer == control.PRODUCER:
        from sealtrail_producer.control import as_control

        settings = as_control(settings)
    return Keyring(settings, producer).signers


@keys_command.command("register")
@PRODUCER
@pass_output
def register(output: Output, *, producer: str) -> None:
    """Sign key records for a producer's keys and publish them."""
    desk = Desk(load(ProducerSettings))
    desk.learn()
    keys = [s.public_key for s in _signers(desk.settings, producer)]
    records = [desk.authority.register(producer, key, now_us()) for key in keys]
    sent = desk.act("keys.register", records)
    _table(output, records)
    keys_root_cli.remark_unsent(output, sent)


@keys_command.command("rotate")
@PRODUCER
@ALGORITHM
@click.option(
    "--overlap",
    type=click.IntRange(min=10),
    default=3600,
    show_default=True,
    help="Seconds in which both keys are good; services must look for the new one within them.",
)
@click.option("--to", default="", help="URI of the new key, when it is not in a file.")
@pass_output
def rotate(output: Output, *, producer: str, algorithm: str, overlap: int, to: str) -> None:
    """Give a producer a new key: registered, put in place, and the old one retired.

    Services that read their key from the file sign with the new one within SEALTRAIL_KEY_REFRESH_S,
    without a restart; their chains go on. Run again after a crash, it goes on where it was.
    """
    settings = load(ProducerSettings)
    desk = Desk(settings)
    desk.learn()
    change = rotation.prepare(settings, producer, Algorithm(algorithm), to)
    begins = desk.authority.register(producer, change.new, now_us())
    ends = desk.authority.retire(change.old.fingerprint, now_us() + overlap * 1_000_000)
    sent = desk.act("keys.rotate", [begins, ends], {"producer": producer})
    change.put_in_place()
    _table(output, [begins, ends])
    output.remark(f"the old key lies in {change.kept}: destroy it after its end")
    keys_root_cli.remark_unsent(output, sent)


@keys_command.command("revoke")
@click.argument("fingerprint", type=FINGERPRINT)
@click.option(
    "--reason", type=click.Choice(["RETIRED", "COMPROMISED"]), required=True, help="Why it ends."
)
@click.option("--at", type=MOMENT, help="From when on, as 2026-11-25T19:00:00Z; now by default.")
@pass_output
def revoke(output: Output, *, fingerprint: bytes, reason: str, at: int | None) -> None:
    """End a key, from now on or from a time on; there is no way back.

    RETIRED: what it signed before its end is taken for 7 more days. COMPROMISED: whatever arrives
    after that time is refused; what was accepted in between is shown by `keys exposure`.
    """
    end = now_us() if at is None else at
    desk = Desk(load(ProducerSettings))
    desk.learn()
    record = desk.authority.revoke(fingerprint, reason, end)
    sent = desk.act("keys.revoke", [record], {"reason": reason})
    _table(output, [record])
    keys_root_cli.remark_unsent(output, sent)


@keys_command.command("pin-schema")
@pass_output
def pin_schema(output: Output) -> None:
    """Sign a pin for this version's event schema and publish it."""
    desk = Desk(load(ProducerSettings))
    desk.learn()
    record = desk.authority.pin_schema(now_us())
    sent = desk.act("keys.pin-schema", [record])
    (pair,) = kafka_pairs([record])
    output.data({"pinned": pair[0].decode(), "topic": desk.settings.keys_topic})
    keys_root_cli.remark_unsent(output, sent)


@keys_command.command("list")
@pass_output
def list_keys(output: Output) -> None:
    """Show the newest record of every key on the keys topic that operators signed."""
    directory, _, refused = _read()
    if refused:
        output.remark(f"{refused} messages are no records of operators of this root")
    output.table(_RECORD_COLUMNS, [_row(record) for record in directory.keys()])  # noqa: SIM118 - no dict


@keys_command.command("show")
@click.argument("fingerprint", type=FINGERPRINT)
@pass_output
def show(output: Output, *, fingerprint: bytes) -> None:
    """Show every version of a key's record that the keys topic holds, and who signed it."""
    directory, read, _ = _read()
    record = directory.key(fingerprint, 2**63 - 1)
    if record is None:
        raise ConfigurationError(
            f"no record of key {fingerprint.hex()} on the topic", hint="see: sealtrail keys list"
        )
    versions = [
        {
            "version": known.version,
            "arrived": shown_time(arrival),
            "producer": known.producer,
            "topics": list(known.topics),
            "valid_from": shown_time(known.valid_from),
            "end": _end(known)[0],
            "at": _end(known)[1],
            "signed_by": [signer for signer, _ in signed.signatures],
        }
        for known, signed, arrival in read
        if known.fingerprint == fingerprint
    ]
    if output.json:
        shown = dict(zip(_RECORD_COLUMNS, _row(record), strict=True))
        output.data(shown | {"public_key": record.public_key, "versions": versions})
        return
    output.data(dict(zip(_RECORD_COLUMNS, _row(record), strict=True)))
    output.line()
    output.table(list(versions[0]), [tuple(v.values()) for v in versions], title="versions")


def _read() -> tuple[Directory, list[tuple[KeyRecord, SignedRecord, int]], int]:
    """What the keys topic holds: a directory, key records that count, how many messages do not."""
    desk = Desk(load(ProducerSettings))
    directory = Directory(desk.authority.root())
    found, refused, latest = [], 0, 0
    for value, arrival in desk.published():
        latest = max(latest, arrival)
        try:
            record = directory.add(value, latest)
        except ContractError:
            # Anybody may write to a topic: what operators did not sign is not there.
            refused += 1
            continue
        if isinstance(record, KeyRecord):
            found.append((record, SignedRecord.decode(value), latest))
    return directory, found, refused


_RECORD_COLUMNS = (
    "producer",
    "fingerprint",
    "algorithm",
    "version",
    "tenant",
    "environment",
    "end",
    "at",
)


def _row(record: KeyRecord) -> tuple[object, ...]:
    return (
        record.producer,
        record.fingerprint.hex(),
        record.algorithm,
        record.version,
        record.tenant,
        record.environment,
        *_end(record),
    )


def _end(record: KeyRecord) -> tuple[str, datetime | None]:
    """How a key ends, or ended, and when."""
    if record.revocation is not None:
        return record.revocation.reason, shown_time(record.revocation.time)
    if record.valid_until is not None:
        return "EXPIRES", shown_time(record.valid_until)
    return "", None


def _table(output: Output, records: Iterable[SignedRecord]) -> None:
    read: list[Any] = [record.read() for record in records]
    output.table(_RECORD_COLUMNS, [_row(record) for record in read])


@keys_command.command("setup-dev")
@click.option("--producer", "producers", multiple=True, required=True, help="May be repeated.")
@click.option("--post-quantum", is_flag=True, help="An ML-DSA-44 key too: both sign each batch.")
@pass_output
def setup_dev(output: Output, *, producers: tuple[str, ...], post_quantum: bool) -> None:
    """Make all that producers need to try Sealtrail out, as far as it is not there yet.

    Operator root, keys with passphrases in files beside them, key records and schema pin, published
    again each time. In production the operator's key does not lie where producers run.
    """
    settings = load(ProducerSettings)
    desk = Desk(settings)
    authority = Authority(settings)
    if not authority.root_file.exists():
        authority.init()
    kinds = [Algorithm.ED25519, *([Algorithm.ML_DSA_44] if post_quantum else [])]
    secret = settings.key_passphrase.get_secret_value()
    records = [authority.pin_schema(now_us())]
    rows = []
    # What operators do later is signed, too: the control chain has a key like any producer.
    for producer in dict.fromkeys((*producers, control.PRODUCER)):
        for kind in kinds if producer != control.PRODUCER else [Algorithm.ED25519]:
            place = default_file(settings, producer, kind)
            if not place.exists():
                signing.new_file(place, secret, kind)
        for signer in _signers(settings, producer):
            records.append(authority.register(producer, signer.public_key, now_us()))
            rows.append((producer, str(signer.public_key.algorithm), signer.public_key.fingerprint))
    desk.publish(records)
    output.table(("producer", "algorithm", "fingerprint"), rows)
