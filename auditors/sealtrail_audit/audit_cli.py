"""`sealtrail audit`: what holds of a store, and what does not."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sealtrail import connections
from sealtrail.cli import FINDINGS, OK, Output, pass_output
from sealtrail.errors import UnavailableError
from sealtrail.settings import load
from sealtrail_audit import report
from sealtrail_audit.conservation import progress, show
from sealtrail_audit.conservation.questions import Questions
from sealtrail_audit.conservation.run import Check, Rules
from sealtrail_audit.reader import connect
from sealtrail_audit.settings import AuditSettings
from sealtrail_audit.store import manifest
from sealtrail_audit.store.load import Loader
from sealtrail_audit.store.run import StoreAudit
from sealtrail_audit.trust import load_trust, trust_root

if TYPE_CHECKING:
    from sealtrail_audit.conservation.kafka import KafkaBroker
    from sealtrail_audit.reader import ClickHouseReader
    from sealtrail_audit.store.run import Report


@click.group("audit")
def audit_command() -> None:
    """Hold the store against what was signed, and against what was consumed."""


@audit_command.command("store")
@pass_output
def audit_store_command(output: Output) -> int:
    """Verify the stored bytes, derive every row again from them, and name what differs.

    Every committed message is looked at: signatures, roots and chains are recomputed from the
    payloads, and all rows of events, edges_by_parent, edges_by_child, entity_events, batches,
    payloads, dispositions, quarantine and commits are compared with what the bytes say.

    Ends with 1 if there is any finding.
    """
    settings = load(AuditSettings)
    started = time.monotonic()
    with closing(connect(settings)) as reader:
        done = _audit(output, settings, reader)
    report.show(output, done, time.monotonic() - started)
    return OK if done.clean else FINDINGS


def _audit(output: Output, settings: AuditSettings, reader: ClickHouseReader) -> Report:
    root = trust_root(settings.trust_root)
    settled = time.time_ns() // 1000 - settings.audit_settle_s * 1_000_000
    with ExitStack() as bars:
        audit = StoreAudit(
            Loader(reader),
            load_trust(reader, root),
            settings.environment,
            chunk_events=settings.audit_events,
            settled=settled,
        )
        return audit.run(lambda total: bars.enter_context(output.progress("messages", total)))


@audit_command.command("manifest")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@pass_output
def manifest_command(output: Output, file: Path) -> int:
    """Write down what the store holds up to now; take it before a backup, and keep both apart.

    Counts and checksums of each table and partition, committed offsets, the head of each chain.
    """
    settings = load(AuditSettings)
    with closing(connect(settings)) as reader:
        made = manifest.take(reader, time.time_ns() // 1000)
    try:
        file.write_text(made.to_json(), encoding="utf-8")
    except OSError as error:
        raise UnavailableError(f"{file} cannot be written: {error.strerror}") from None
    rows = sum(held.rows for held in made.tables)
    output.data({"file": str(file), "rows": rows, "chains": len(made.chains)})
    return OK


@audit_command.command("restore")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@pass_output
def audit_restore_command(output: Output, file: Path) -> int:
    """Hold a restored store against the manifest FILE, then audit it whole.

    The manifest says whether all of it is there (committed offsets, chain heads, counts and
    checksums); `audit store` says whether it is what was signed. The first difference is named
    first.

    Ends with 1 if there is any difference or finding.
    """
    settings = load(AuditSettings)
    started = time.monotonic()
    expected = manifest.Manifest.from_json(file.read_text(encoding="utf-8", errors="replace"))
    with closing(connect(settings)) as reader:
        differences = list(manifest.compare(expected, reader))
        done = _audit(output, settings, reader)
    report.show_restored(output, expected, differences, done, time.monotonic() - started)
    return OK if done.clean and not differences else FINDINGS


@audit_command.command("conservation")
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Go on where the run before left off; the file is written anew.",
)
@click.option("--drained", is_flag=True, help="All that the log holds must be committed by now.")
@click.option("--store-only", is_flag=True, help="Look at the store alone; ask no broker.")
@pass_output
def conservation_command(
    output: Output, state: Path | None, *, drained: bool, store_only: bool
) -> int:
    """Count: nothing lost, nothing twice, everything accounted for.

    Per partition and chain: consumed offsets are the sum of the seven dispositions, none is
    committed without a durable row, each event stands once in the views, links are consistent,
    chains are unbroken but for gaps that findings name. Broker and store are reconciled; every
    difference is named. Reads only, at any time, beside running workers.

    Ends with 1 if there is any difference.
    """
    if drained and store_only:
        raise click.UsageError("--drained asks the broker, --store-only does not")
    settings = load(AuditSettings)
    started = time.monotonic()
    settled = time.time_ns() // 1000 - settings.audit_settle_s * 1_000_000
    marks = progress.read(state)
    with ExitStack() as opened:
        reader = opened.enter_context(closing(connect(settings)))
        broker = None if store_only else opened.enter_context(closing(_broker(settings)))
        check = Check(Questions(reader, settings.topic), broker, marks, Rules(settled, drained))
        found = check.run(settings.topic)
    if state is not None:
        progress.write(state, check.marks.items())
    show.show(output, found, time.monotonic() - started)
    return OK if found.holds else FINDINGS


def _broker(settings: AuditSettings) -> KafkaBroker:
    try:
        from sealtrail_audit.conservation.kafka import KafkaBroker  # no Kafka without need
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"asking the broker needs {error.name}, which is not installed",
            hint='pip install "sealtrail[producer]"; or --store-only',
        ) from error
    return KafkaBroker(connections.librdkafka(settings, "auditor"), settings.group)
