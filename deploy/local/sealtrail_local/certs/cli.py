"""`sealtrail certs`: a development CA, certificates with short lives, rotation without downtime."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from sealtrail import connections
from sealtrail.cli import FINDINGS, OK, Output, pass_output
from sealtrail.identity import ADMIN, in_certificate
from sealtrail.settings import load
from sealtrail_local.certs import folder, reload, x509
from sealtrail_local.real import gate
from sealtrail_local.settings import LocalSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from cryptography.x509 import Certificate

    from sealtrail_local.certs.folder import Folder, Issued

COLUMNS = ("name", "ends", "left", "hosts", "signed_by", "problem")
HOURS = click.option(
    "--hours", type=click.FloatRange(min=0.01), default=24.0, show_default=True, help="Its life."
)
DAYS = click.option(
    "--days", type=click.FloatRange(min=0.01), default=30.0, show_default=True, help="Life of a CA."
)
# Clients look for new files once a second (`sealtrail.connections.Watched`).
SETTLE_S = 3.0


@click.group("certs")
def certs_command() -> None:
    """Make and rotate the certificates of a development CA, in STATE_DIR/certs.

    In production they come from your own CA: what counts is the name in them (docs/security.md).
    """


def _folder(settings: LocalSettings | None = None) -> Folder:
    return folder.Folder((settings or load(LocalSettings)).state_dir / "certs")


@certs_command.command("init")
@DAYS
@pass_output
def init_command(output: Output, days: float) -> None:
    """Make the CA."""
    certs = _folder()
    ca = certs.init(folder.now(), timedelta(days=days))
    output.data({"ca": str(certs.bundle), "ends": ca.certificate.not_valid_after_utc})


@certs_command.command("issue")
@click.argument("name")
@click.option("--host", "hosts", multiple=True, help="For a server: its names and addresses.")
@HOURS
@pass_output
def issue_command(output: Output, name: str, hosts: tuple[str, ...], hours: float) -> None:
    """Make a key and a certificate for NAME: a producer, a role, a broker.

    A producer's certificate has the name that its signing keys speak for.
    """
    certs = _folder()
    issued = certs.issue(name, hosts, folder.now(), timedelta(hours=hours))
    output.data(
        {
            "name": name,
            "file": str(issued.file),
            "ca": str(certs.bundle),
            "ends": issued.certificate.not_valid_after_utc,
        }
    )


@certs_command.command("list")
@pass_output
def list_command(output: Output) -> None:
    """Show all certificates."""
    certs, now = _folder(), folder.now()
    quorum = certs.quorum()
    rows = _rows(certs, certs.issued(now))
    output.table(COLUMNS, rows + _quorum_rows(quorum, _held(quorum, now)))


@certs_command.command("check")
@click.option(
    "--within",
    type=click.FloatRange(min=0),
    default=6.0,
    show_default=True,
    help="Hours that a certificate must still have.",
)
@pass_output
def check_command(output: Output, within: float) -> int:
    """Show certificates that are of no use or end soon; exit code 1 if there is one.

    Those of the brokers' controllers (quorum/) are taken in when a broker starts: they are shown
    when a third of their life is left.
    """
    certs, now = _folder(), folder.now()
    limit = now + timedelta(hours=within)
    bad = [i for i in certs.issued(now) if i.problem or i.certificate.not_valid_after_utc < limit]
    cas = [ca for ca in certs.trusted() if ca.not_valid_after_utc < limit]
    quorum = certs.quorum()
    late = [i for i in _held(quorum, now) if i.problem or _left_of(i, now) < 1 / 3]
    if not bad and not cas and not late and not output.json:
        output.line("all certificates are good")
        return OK
    rows = _rows(certs, bad) + _quorum_rows(quorum, late)
    rows += [
        (in_certificate(ca), ca.not_valid_after_utc, _left(ca), "", "", "a CA ends") for ca in cas
    ]
    output.table(COLUMNS, rows)
    return FINDINGS if rows else OK


@certs_command.command("rotate")
@click.argument("names", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All, not only those past half of their life.")
@click.option("--ca", "new_ca", is_flag=True, help="Make a new CA first, and renew all under it.")
@click.option(
    "--servers", is_flag=True, help="Have running brokers (and the gate) read their files again."
)
@DAYS
@pass_output
def rotate_command(
    output: Output, names: tuple[str, ...], *, all_: bool, new_ca: bool, servers: bool, days: float
) -> None:
    """Replace certificates (NAMES, or those past half of their life) while everything runs.

    With --ca: the new CA is trusted beside the old one, by brokers and clients, before it signs;
    the old one is dropped by a later `rotate`, once all that it signed has ended.
    """
    settings = load(LocalSettings)
    certs, now = _folder(settings), folder.now()
    forgotten = certs.forget(now)
    if new_ca:
        certs.trust(now, timedelta(days=days))
    if servers and (new_ca or forgotten):
        places = reload.brokers(_admin(settings), ["truststore"])
        gate.reload(settings)
        with certs.trial(now) as certificate:
            reload.wait_accepted(places, certificate)
    if new_ca:
        output.remark(f"the new CA is trusted; {SETTLE_S:.0f} s for clients to take it in")
        time.sleep(SETTLE_S)
    before = certs.issued(now)
    unknown = set(names) - {issued.name for issued in before}
    if unknown:
        raise click.UsageError(f"no certificate was issued for {', '.join(sorted(unknown))}")
    due = [i for i in before if new_ca or all_ or (i.name in names if names else _half(i, now))]
    fresh = [certs.renew(issued, now) for issued in due]
    if servers:
        _reload_keys(settings, certs.issued(now))
    if fresh or output.json:
        output.table(COLUMNS, _rows(certs, fresh))
    else:
        output.line("no certificate is past half of its life")
    for name in forgotten:
        output.remark(f"CA {name} is not trusted any more")


@certs_command.command("reload")
@pass_output
def reload_command(output: Output) -> None:
    """Have running brokers, and the gate, read certificates and trusted CAs again."""
    settings = load(LocalSettings)
    reload.brokers(_admin(settings), ["truststore"])
    places = _reload_keys(settings, _folder(settings).issued(folder.now()))
    output.table(("broker", "address"), [(n, f"{h}:{p}") for n, (h, p) in places.items()])


def _reload_keys(settings: LocalSettings, issued: Iterable[Issued]) -> dict[int, tuple[str, int]]:
    gate.reload(settings)
    places = reload.brokers(_admin(settings), ["keystore"])
    servers = {i.name: i.certificate.serial_number for i in issued if x509.hosts_of(i.certificate)}
    reload.wait_for(places, servers)
    return places


def _admin(settings: LocalSettings) -> dict[str, str]:
    return connections.librdkafka(settings, ADMIN)


def _half(issued: Issued, now: datetime) -> bool:
    return _left_of(issued, now) <= 1 / 2


def _left_of(issued: Issued, now: datetime) -> float:
    """Which part of its life a certificate has left."""
    life = x509.life_of(issued.certificate)
    return (issued.certificate.not_valid_after_utc - now) / life


def _held(quorum: Folder, now: datetime) -> list[Issued]:
    """Certificates of controllers; a folder of clients alone has none."""
    return quorum.issued(now) if quorum.bundle.exists() else []


def _quorum_rows(quorum: Folder, held: Sequence[Issued]) -> list[tuple[object, ...]]:
    named = [replace(one, name=f"quorum/{one.name}") for one in held]
    return _rows(quorum, named) if named else []


def _rows(certs: Folder, issued: Sequence[Issued]) -> list[tuple[object, ...]]:
    cas = certs.trusted()
    rows: list[tuple[object, ...]] = []
    for one in issued:
        signer = next((in_certificate(ca) for ca in cas if x509.signed_by(one.certificate, ca)), "")
        hosts = ", ".join(x509.hosts_of(one.certificate))
        end = one.certificate.not_valid_after_utc
        rows.append((one.name, end, _left(one.certificate), hosts, signer, one.problem))
    return rows


def _left(certificate: Certificate) -> str:
    hours = (certificate.not_valid_after_utc - folder.now()).total_seconds() / 3600
    return f"{hours:.1f} h"
