"""`sealtrail keys init-root`, `root show|rotate`, `sign`, `publish`, `public`: for operators."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives import serialization

from sealtrail import dsse
from sealtrail.cli import Output, pass_output
from sealtrail.cli.values import FINGERPRINT
from sealtrail.errors import ConfigurationError
from sealtrail.keys import PublicKey
from sealtrail.records import SignedRecord
from sealtrail.settings import load
from sealtrail.trust import TrustRoot
from sealtrail_producer import keyring
from sealtrail_producer.authority import Authority
from sealtrail_producer.desk import Desk
from sealtrail_producer.files import write_private
from sealtrail_producer.settings import ProducerSettings

FILE = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))


@click.command("init-root")
@click.option("--operators", type=click.IntRange(1, 32), default=1, show_default=True)
@click.option("--threshold", type=click.IntRange(1, 32), default=1, show_default=True)
@click.option(
    "--key", "keys", multiple=True, help="A file or URI of a key that is there. May be repeated."
)
@pass_output
def init_root(output: Output, operators: int, threshold: int, keys: tuple[str, ...]) -> None:
    """Pin the first trust root; makes operator keys unless they are named.

    Keys that are made here are encrypted with SEALTRAIL_OPERATOR_PASSPHRASE, else with fresh
    passphrases in files beside them. Verifiers need the root file alone.
    """
    authority = Authority(load(ProducerSettings))
    root = authority.init(operators=operators, threshold=threshold, keys=keys)
    shown: dict[str, Any] = {"root": str(authority.root_file)}
    if not keys:
        shown["operator_key"] = str(authority.key_file)
    shown["threshold"] = f"{root.threshold} of {len(root.keys)}"
    shown["fingerprint"] = " ".join(k.fingerprint.hex() for k in root.keys)
    output.data(shown)


@click.group("root")
def root_command() -> None:
    """Show the operators in force, and change them."""


@root_command.command("show")
@pass_output
def show(output: Output) -> None:
    """Show every trust root from the pinned one on; the last is in force."""
    desk = Desk(load(ProducerSettings))
    desk.learn()
    authority = desk.authority
    here = _here(authority)
    later = [TrustRoot.decode(record.body) for record in authority.roots()]
    rows = [
        (root.version, f"{root.threshold} of {len(root.keys)}", key.fingerprint, key.algorithm, own)
        for root in (authority.root(), *later)
        for key in root.keys
        for own in ("yes" if key.fingerprint in here else "",)
    ]
    output.table(("version", "threshold", "operator", "algorithm", "here"), rows)


@root_command.command("rotate")
@click.option("--new", is_flag=True, help="Make one more operator key here, and add it.")
@click.option(
    "--add", "added", multiple=True, help="Add an operator: a PEM file of a public key, or a URI."
)
@click.option("--remove", "removed", multiple=True, type=FINGERPRINT)
@click.option("--threshold", type=click.IntRange(1, 32), help="As before unless given.")
@pass_output
def rotate(
    output: Output,
    new: bool,
    added: tuple[str, ...],
    removed: tuple[bytes, ...],
    threshold: int | None,
) -> None:
    """Change the operators: the next root, signed by a threshold of the old and of the new.

    What the operators before signed until then stays in force; what they sign afterwards does not
    count. When others must sign, too, the record waits in a file (`sealtrail keys sign`).
    """
    desk = Desk(load(ProducerSettings))
    desk.learn()
    authority = desk.authority
    add = [_public(reference, desk.settings) for reference in added]
    if new:
        add.append(authority.new_operator())
    record = authority.next_root(add=add, remove=removed, threshold=threshold)
    sent = desk.act("keys.root.rotate", [record])
    root = TrustRoot.decode(record.body)
    rows = [
        (root.version, f"{root.threshold} of {len(root.keys)}", k.fingerprint) for k in root.keys
    ]
    output.table(("version", "threshold", "operator"), rows)
    remark_unsent(output, sent)


@click.command("sign")
@FILE
@click.option("--dry-run", is_flag=True, help="Only show what would be signed.")
@pass_output
def sign(output: Output, file: Path, dry_run: bool) -> None:
    """Add the signatures of this machine's operator keys to a record that waits.

    Look at what it says before: `--dry-run`.
    """
    record, complete = _read(file), None
    if not dry_run:
        record, complete = Authority(load(ProducerSettings)).add_signatures(record)
        write_private(file, record.encode())
    output.data(_described(record) | {"complete": complete})
    if complete:
        output.remark(f"enough operators signed: sealtrail keys publish {file}")


@click.command("publish")
@FILE
@pass_output
def publish(output: Output, file: Path) -> None:
    """Publish a record that enough operators signed."""
    desk = Desk(load(ProducerSettings))
    desk.learn()
    record = _read(file)
    desk.authority.accept(record)
    sent = desk.act("keys.publish", [record])
    output.data(_described(record) | {"topic": desk.settings.keys_topic})
    remark_unsent(output, sent)


@click.command("public")
@click.argument("reference")
@pass_output
def public(output: Output, reference: str) -> None:
    """Print the public half of a key (a file or URI) as PEM, for `root rotate --add`."""
    settings = load(ProducerSettings)
    key = keyring.open_key(reference, settings).public_key
    loaded = serialization.load_der_public_key(key.der)
    pem = loaded.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()
    if output.json:
        output.data({"fingerprint": key.fingerprint.hex(), "pem": pem})
    else:
        output.line(pem.rstrip())


def remark_unsent(output: Output, sent: bool) -> None:
    """Say when the control chain's events wait in the spool."""
    if not sent:
        output.remark("the act is signed and waits in the spool: the brokers did not answer")


def _here(authority: Authority) -> set[bytes]:
    try:
        return {signer.public_key.fingerprint for signer in authority.operators()}
    except ConfigurationError:
        return set()


def _public(reference: str, settings: ProducerSettings) -> PublicKey:
    file = Path(reference)
    if not file.is_file() or b"PUBLIC KEY" not in (data := file.read_bytes()[:8192]):
        return keyring.open_key(reference, settings).public_key
    try:
        key = serialization.load_pem_public_key(data)
    except ValueError as error:
        raise ConfigurationError(f"{file} holds no public key: {error}") from None
    return PublicKey.from_der(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def _read(file: Path) -> SignedRecord:
    return SignedRecord.decode(file.read_bytes())


def _described(record: SignedRecord) -> dict[str, Any]:
    """What operators have to see before they sign, or after somebody published."""
    opened = record.read()
    values = {field.name: getattr(opened, field.name) for field in fields(opened)}
    if isinstance(opened, TrustRoot):
        values["keys"] = [key.fingerprint for key in opened.keys]
    # A schema has pages; its fingerprint says which it is.
    values.pop("schema", None)
    kind = record.payload_type.removeprefix(dsse.PREFIX).partition(".")[0]
    return {"record": kind} | values | {"signers": [signer for signer, _ in record.signatures]}
