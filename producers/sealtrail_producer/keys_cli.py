"""`sealtrail keys`: make, register, revoke and show signing keys."""

from __future__ import annotations

import time
from pathlib import Path

import click

from sealtrail import control
from sealtrail.cli import Output, pass_output
from sealtrail.errors import SealtrailError
from sealtrail.identity import OPERATOR
from sealtrail.keys import Algorithm
from sealtrail.records import Directory, KeyRecord, SignedRecord
from sealtrail.settings import load
from sealtrail_producer import signing
from sealtrail_producer.authority import Authority, kafka_pairs
from sealtrail_producer.files import safe_name
from sealtrail_producer.settings import ProducerSettings

PRODUCER = click.option("--producer", required=True, help="Service identity (name or SPIFFE id).")


def _now_us() -> int:
    return time.time_ns() // 1000


def _publish(settings: ProducerSettings, records: list[SignedRecord]) -> None:
    from sealtrail_producer import kafka

    pairs = kafka_pairs(records, Authority(settings).root())
    properties = kafka.config(settings, OPERATOR)
    kafka.publish(properties, settings.keys_topic, pairs)


@click.group("keys")
def keys_command() -> None:
    """Make, register and show signing keys."""


@keys_command.command("init-root")
@pass_output
def init_root(output: Output) -> None:
    """Make an operator key and pin it as the trust root.

    The key is encrypted with SEALTRAIL_OPERATOR_PASSPHRASE, else with a fresh
    passphrase in a file beside it. Verifiers need the root file alone.
    """
    authority = Authority(load(ProducerSettings))
    root = authority.init()
    output.data(
        {
            "root": str(authority.root_file),
            "operator_key": str(authority.key_file),
            "fingerprint": root.keys[0].fingerprint.hex(),
        }
    )


@keys_command.command("new")
@PRODUCER
@click.option(
    "--algorithm",
    type=click.Choice([a.value for a in Algorithm]),
    default=Algorithm.ED25519.value,
    show_default=True,
)
@click.option(
    "--file", type=click.Path(path_type=Path), help="Default: where the SDK looks for it."
)
@pass_output
def new(output: Output, *, producer: str, algorithm: str, file: Path | None) -> None:
    """Make a producer's key, encrypted.

    The passphrase is SEALTRAIL_KEY_PASSPHRASE, else a fresh one in a file
    beside the key. A producer with an Ed25519 and an ML-DSA-44 key signs with both.
    """
    settings = load(ProducerSettings)
    kind = Algorithm(algorithm)
    place = file or default_key_file(settings, producer, kind)
    signer = signing.new_file(place, settings.key_passphrase.get_secret_value(), kind)
    output.data(_described(producer, place, signer))


def default_key_file(settings: ProducerSettings, producer: str, kind: Algorithm) -> Path:
    """Where the SDK looks for a producer's key."""
    ending = ".pem" if kind is Algorithm.ED25519 else ".ml-dsa-44.pem"
    return settings.state_dir / "keys" / (safe_name(producer) + ending)


def _described(producer: str, file: Path, signer: signing.KeySigner) -> dict[str, str]:
    return {
        "producer": producer,
        "key_file": str(file),
        "algorithm": str(signer.public_key.algorithm),
        "fingerprint": signer.public_key.fingerprint.hex(),
    }


def _signers(settings: ProducerSettings, producer: str) -> list[signing.KeySigner]:
    return signing.load_signers(settings, producer)


@keys_command.command("register")
@PRODUCER
@pass_output
def register(output: Output, *, producer: str) -> None:
    """Sign key records for a producer's keys and publish them."""
    settings = load(ProducerSettings)
    authority = Authority(settings)
    signers = _signers(settings, producer)
    records = [authority.register(producer, s.public_key, _now_us()) for s in signers]
    _publish(settings, records)
    output.table(_RECORD_COLUMNS, [_row(KeyRecord.decode(r.body)) for r in records])


@keys_command.command("revoke")
@click.argument("fingerprint")
@click.option(
    "--reason", type=click.Choice(["RETIRED", "COMPROMISED"]), required=True, help="Why it ends."
)
@pass_output
def revoke(output: Output, *, fingerprint: str, reason: str) -> None:
    """End a key, from now on; there is no way back."""
    settings = load(ProducerSettings)
    try:
        raw = bytes.fromhex(fingerprint)
    except ValueError:
        raise click.BadParameter("a fingerprint is written in hex") from None
    record = Authority(settings).revoke(raw, reason, _now_us())
    _publish(settings, [record])
    output.table(_RECORD_COLUMNS, [_row(KeyRecord.decode(record.body))])


@keys_command.command("pin-schema")
@pass_output
def pin_schema(output: Output) -> None:
    """Sign a pin for this version's event schema and publish it."""
    settings = load(ProducerSettings)
    record = Authority(settings).pin_schema(_now_us())
    _publish(settings, [record])
    (pair,) = kafka_pairs([record], Authority(settings).root())
    output.data({"pinned": pair[0].decode(), "topic": settings.keys_topic})


@keys_command.command("list")
@pass_output
def list_keys(output: Output) -> None:
    """Show the newest record of every key on the keys topic that operators of the root signed."""
    from sealtrail_producer import kafka

    settings = load(ProducerSettings)
    directory = Directory(Authority(settings).root())
    properties = kafka.config(settings, OPERATOR)
    refused = 0
    for _, value, arrival in kafka.read_all(properties, settings.keys_topic):
        try:
            directory.add(value, arrival)
        except SealtrailError:
            # Anybody may write to a topic: what operators did not sign is not there.
            refused += 1
    if refused:
        output.remark(f"{refused} messages are no records of operators of this root")
    output.table(_RECORD_COLUMNS, [_row(record) for record in directory.keys()])  # noqa: SIM118 - no dict


_RECORD_COLUMNS = (
    "producer",
    "fingerprint",
    "algorithm",
    "version",
    "tenant",
    "environment",
    "end",
)


def _row(record: KeyRecord) -> tuple[object, ...]:
    end = record.revocation.reason if record.revocation else ""
    return (
        record.producer,
        record.fingerprint.hex(),
        record.algorithm,
        record.version,
        record.tenant,
        record.environment,
        end,
    )


@keys_command.command("setup-dev")
@click.option("--producer", "producers", multiple=True, required=True, help="May be repeated.")
@click.option("--post-quantum", is_flag=True, help="An ML-DSA-44 key too: both sign each batch.")
@pass_output
def setup_dev(output: Output, *, producers: tuple[str, ...], post_quantum: bool) -> None:
    """Make all that producers need to try Sealtrail out, as far as it is not there yet.

    Operator root, keys with passphrases in files beside them, key records and
    schema pin, published again each time. In production the operator's key does
    not lie where producers run.
    """
    settings = load(ProducerSettings)
    authority = Authority(settings)
    if not authority.root_file.exists():
        authority.init()
    kinds = [Algorithm.ED25519, *([Algorithm.ML_DSA_44] if post_quantum else [])]
    secret = settings.key_passphrase.get_secret_value()
    records = [authority.pin_schema(_now_us())]
    rows = []
    # What operators do later is signed, too: the control chain has a key like any producer.
    for producer in dict.fromkeys((*producers, control.PRODUCER)):
        for kind in kinds:
            place = default_key_file(settings, producer, kind)
            if not place.exists():
                signing.new_file(place, secret, kind)
        for signer in _signers(settings, producer):
            records.append(authority.register(producer, signer.public_key, _now_us()))
            rows.append((producer, str(signer.public_key.algorithm), signer.public_key.fingerprint))
    _publish(settings, records)
    output.table(("producer", "algorithm", "fingerprint"), rows)
