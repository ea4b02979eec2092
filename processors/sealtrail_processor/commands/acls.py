"""`sealtrail acls`: who may do what on Kafka, and how much, as deploy/kafka/access.yaml says."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealtrail import identity, resources
from sealtrail.cli import FINDINGS, OK, Output, pass_output
from sealtrail.errors import ConfigurationError, ContractError
from sealtrail.findings import Code
from sealtrail.records import Directory
from sealtrail.settings import load
from sealtrail_processor.judging.model import Finding, Log
from sealtrail_processor.kafka import access as kafka_access
from sealtrail_processor.kafka import quotas, registry_rules
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sealtrail.records import KeyRecord
    from sealtrail_processor.kafka.access import Change, Mismatch, Role
    from sealtrail_processor.kafka.admin import KafkaAdmin
    from sealtrail_processor.kafka.quota_admin import QuotaAdmin
    from sealtrail_processor.kafka.quotas import QuotaChange

COLUMNS = ("act", "principal", "operation", "kind", "name", "why")
FILE = click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Instead of the access.yaml that comes with Sealtrail.",
)


@click.group("acls")
def acls_command() -> None:
    """Compare Kafka's access lists and quotas with what is declared, and make them so.

    Producers are those for whom a valid key speaks: run it again after `sealtrail keys register`.
    """


@acls_command.command("plan")
@FILE
@pass_output
def plan_command(output: Output, file: Path | None) -> int:
    """Show what `apply` would do; exit code 1 if there is any difference."""
    return _show(output, _plan(load(WorkerSettings), file))


@acls_command.command("apply")
@FILE
@click.option(
    "--roles", is_flag=True, help="Only grant what roles with named principals need: at first."
)
@pass_output
def apply_command(output: Output, file: Path | None, *, roles: bool) -> int:
    """Grant and take back, bound; exit code 1 if something is left that it refuses."""
    plan = _plan(load(WorkerSettings), file, roles=roles)
    plan.admin.change(plan.lists)
    plan.quota_admin.change(plan.quotas)
    _show(output, plan)
    acts = [c.act for c in plan.lists] + [c.act for c in plan.quotas]
    return FINDINGS if "refuse" in acts else OK


@acls_command.command("registry")
@FILE
@click.option("--roles", is_flag=True, help="Without producers: at first, with no trust root yet.")
@pass_output
def registry_command(output: Output, file: Path | None, *, roles: bool) -> None:
    """Print the rules of the registry's gate: what deploy/registry/gate.conf.template includes.

    Run it again, and reload the gate, when producers come or go.
    """
    settings = load(WorkerSettings)
    speaking = () if roles else producers(settings)
    rules = registry_rules.nginx(_roles(settings, file), speaking)
    if output.json:
        output.data({"rules": rules})
    else:
        click.echo(rules, nl=False)


@acls_command.command("check")
@FILE
@click.option(
    "--certificates",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with the certificates of clients; default: STATE_DIR/certs/issued.",
)
@click.option("--dry-run", is_flag=True, help="Only show them: write no finding, publish no alert.")
@pass_output
def check_command(
    output: Output, file: Path | None, certificates: Path | None, *, dry_run: bool
) -> int:
    """Find clients whose name is not the producer that a key speaks for.

    Each is a finding IDENTITY_MISMATCH in the store and on the alerts topic; exit code 1 if there
    is one.
    """
    settings = load(WorkerSettings)
    admin = _admin(settings)
    folder = certificates or settings.state_dir / "certs" / "issued"
    wrong = kafka_access.mismatches(
        _roles(settings, file),
        producers(settings),
        admin.entries(),
        list(client_names(folder)),
        settings.topic,
    )
    if wrong and not dry_run:
        _report(settings, wrong)
    if not wrong and not output.json:
        output.line("keys, principals and certificates speak of the same producers")
        return OK
    output.table(("name", "detail"), [(m.name, m.detail) for m in wrong])
    return FINDINGS if wrong else OK


def _roles(settings: WorkerSettings, file: Path | None) -> list[Role]:
    source = file or resources.path("kafka", "access.yaml")
    return kafka_access.read(source.read_text(encoding="utf-8"), settings)


def _admin(settings: WorkerSettings) -> KafkaAdmin:
    from sealtrail_processor.kafka.admin import KafkaAdmin
    from sealtrail_processor.pipeline import wiring

    return KafkaAdmin(wiring.kafka_config(settings, identity.ADMIN))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be changed, and by whom."""

    admin: KafkaAdmin
    lists: Sequence[Change]
    quota_admin: QuotaAdmin
    quotas: Sequence[QuotaChange]


def _plan(settings: WorkerSettings, file: Path | None, *, roles: bool = False) -> _Plan:
    """The changes; with `roles` those alone that need no trust root, since there is none yet."""
    from sealtrail_processor.kafka.quota_admin import QuotaAdmin

    matrix, admin = _roles(settings, file), _admin(settings)
    quota_admin = QuotaAdmin(settings, identity.ADMIN)
    speaking = set() if roles else producers(settings)
    lists = kafka_access.plan(matrix, speaking, admin.entries())
    if roles:
        return _Plan(admin, [change for change in lists if change.act == "grant"], quota_admin, ())
    # Where quotas are somebody else's (a service that runs Kafka for others) the file has none.
    bounded = any(role.quotas for role in matrix)
    bounds = quotas.plan(matrix, speaking, quota_admin.found()) if bounded else ()
    return _Plan(admin, lists, quota_admin, bounds)


def producers(settings: WorkerSettings) -> set[str]:
    """Those for whom a key speaks here and now, by the records on the keys topic.

    Raises:
        ConfigurationError: there is no trust root, or a name that no client can have.
        UnavailableError: the topic cannot be read.
    """
    from sealtrail_processor.kafka.keys_topic import KeysTopic
    from sealtrail_processor.pipeline import wiring

    directory = Directory(wiring.trust_root(settings.trust_root))
    config = wiring.kafka_config(settings, identity.ADMIN)
    with closing(KeysTopic(config, settings.keys_topic)) as topic:
        for _, message in topic.read_to_end():
            try:
                directory.add(message.value or b"", message.timestamp_us)
            except ContractError:
                continue  # anybody's, or a tombstone: it speaks for nobody
    now = wiring.now_us()
    return {record.producer for record in directory.keys() if _speaks(record, settings, now)}  # noqa: SIM118


def _speaks(record: KeyRecord, settings: WorkerSettings, now: int) -> bool:
    tenants = {settings.tenant, *settings.accept_tenants}
    here = record.environment == settings.environment and record.tenant in tenants
    ends = record.valid_until
    valid = record.revocation is None and (ends is None or ends > now)
    return here and valid and settings.topic in record.topics


def client_names(folder: Path) -> Iterator[str]:
    """Names in the certificates of a folder that are no servers'.

    Raises:
        ConfigurationError: a file holds no certificate.
    """
    for file in sorted(folder.glob("*.pem")):
        try:
            certificate = x509.load_pem_x509_certificates(file.read_bytes())[0]
            if not _serves(certificate):
                yield identity.in_certificate(certificate)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"no certificate in {file}: {error}") from None


def _serves(certificate: x509.Certificate) -> bool:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.SERVER_AUTH in uses


def _report(settings: WorkerSettings, wrong: Sequence[Mismatch]) -> None:
    from sealtrail_processor.kafka.publisher import KafkaPublisher
    from sealtrail_processor.pipeline import wiring
    from sealtrail_processor.reporting.metrics import Metrics
    from sealtrail_processor.reporting.reports import Reports
    from sealtrail_processor.store.opening import open_store

    publisher = KafkaPublisher(wiring.kafka_config(settings, identity.ADMIN))
    with closing(open_store(settings)) as store:
        reports = Reports(
            store,
            publisher,
            Metrics(),
            alerts_topic=settings.alerts_topic,
            quarantine_topic=settings.quarantine_topic,
            now=wiring.now_us,
        )
        for mismatch in wrong:
            # About no message: the name stands where the topic does, and tells them apart.
            about = Log("", f"access:{mismatch.name}", 0)
            finding = Finding(Code.IDENTITY_MISMATCH, mismatch.detail, batch_seq=mismatch.kind)
            reports.write(about, [(0, finding, settings.tenant)], "audit")
    publisher.close(10)


def _show(output: Output, plan: _Plan) -> int:
    if not plan.lists and not plan.quotas and not output.json:
        output.line("access is as declared")
        return OK
    rows: list[tuple[str, ...]] = [
        (
            change.act,
            change.entry.principal,
            change.entry.right.operation,
            change.entry.right.kind,
            change.entry.right.name + ("*" if change.entry.right.prefixed else ""),
            change.why,
        )
        for change in plan.lists
    ]
    rows += [
        (
            change.act,
            change.quota.principal,
            change.quota.name,
            "quota",
            f"{change.quota.value:.15g}",
            change.why,
        )
        for change in plan.quotas
    ]
    output.table(COLUMNS, rows)
    return FINDINGS if rows else OK
