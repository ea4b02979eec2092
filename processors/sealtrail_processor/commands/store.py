"""`sealtrail store`: the tables behind everything."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sealtrail.cli import FINDINGS, OK, Output, pass_output
from sealtrail.settings import load
from sealtrail_processor.settings import WorkerSettings
from sealtrail_processor.store import access, backup, migrate
from sealtrail_processor.store.opening import layout, open_store

if TYPE_CHECKING:
    from sealtrail_processor.store.port import Row

_PARTS = """
    SELECT table, sum(rows), sum(bytes_on_disk), count(),
        sumIf(bytes_on_disk, disk_name = 'cold')
    FROM system.parts
    WHERE active AND database = {database:String}
    GROUP BY table
    ORDER BY table
"""
# A copy of terabytes is one statement.
COPYING_S = 86_400.0
_COMMITTED = """
    SELECT log_id, topic, partition, committed
    FROM committed
    ORDER BY topic, partition, log_id
"""


@click.group("store")
def store_command() -> None:
    """Create and look at the tables in ClickHouse."""


@store_command.command("migrate")
@pass_output
def migrate_command(output: Output) -> int:
    """Bring the tables to this version; does nothing when they are."""
    settings = load(WorkerSettings)
    with closing(open_store(settings)) as store:
        done = migrate.migrate(store, layout(settings), int(time.time() * 1e6))
    names = [f"{m.version:04}_{m.name}" for m in done]
    if output.json:
        output.data({"applied": names})
    else:
        output.data("applied " + ", ".join(names) if names else "the store is up to date")
    return OK


@store_command.command("status")
@pass_output
def status_command(output: Output) -> int:
    """Show migrations, sizes of tables and how far the log is committed.

    Ends with 1 when migrations are missing.
    """
    settings = load(WorkerSettings)
    where = layout(settings)
    with closing(open_store(settings)) as store:
        done = migrate.applied(store, where)
        missing = migrate.pending(migrate.shipped(), done)
        sizes = store.query(_PARTS, {"database": where.database}) if done else []
        committed = [] if missing else store.query(_COMMITTED)
    _show(output, done, missing, sizes, committed)
    return FINDINGS if missing else OK


@store_command.command("access")
@click.option(
    "--as",
    "form",
    type=click.Choice(["table", "sql", "xml"]),
    default="table",
    show_default=True,
    help="The matrix, statements, or server configuration for users.d/.",
)
@click.option(
    "--matrix",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another matrix than the shipped deploy/clickhouse/access.yaml.",
)
@click.option("--apply", is_flag=True, help="Run the statements as SEALTRAIL_STORE_USER.")
@pass_output
def access_command(output: Output, form: str, matrix: Path | None, apply: bool) -> int:
    """Show or apply who may do what in ClickHouse: roles, quotas, profiles, row policies.

    Users get a password when SEALTRAIL_<NAME>_SHA256 holds its SHA-256 in hexadecimal; users
    without one are left out of the statements.
    """
    settings = load(WorkerSettings)
    shown = access.load(matrix)
    names = access.Names(settings.store_database, settings.store_views)
    hashes = {u.name: os.environ[u.variable] for u in shown.users if u.variable in os.environ}
    statements = access.as_sql(shown, names, hashes)
    if apply:
        with closing(open_store(settings)) as store:
            for statement in statements:
                store.command(statement)
        output.data({"applied": len(statements), "users": sorted(hashes)})
    elif form == "xml":
        click.echo(access.as_xml(shown, names), nl=False)
    elif form == "sql":
        click.echo("\n".join(f"{statement};" for statement in statements))
    else:
        rows = [
            (role.name, what, role.tenants, role.clearance, role.profile, role.quota)
            for role in shown.roles.values()
            for what in access.grants(shown, role, names)
        ]
        output.table(("role", "grant", "tenants", "clearance", "profile", "quota"), rows)
    return OK


@store_command.command("backup")
@click.argument("name")
@click.option("--disk", default="backups", show_default=True, help="A disk of the server.")
@pass_output
def backup_command(output: Output, name: str, disk: str) -> int:
    """Copy all tables to a disk of the server, while the worker goes on.

    Take `sealtrail audit manifest FILE` before it: it says what a restored store must hold.
    """
    settings = load(WorkerSettings)
    with closing(open_store(settings, timeout_s=COPYING_S)) as store:
        parts = backup.backup(store, layout(settings), disk, name)
    _show_parts(output, parts)
    return OK


@store_command.command("restore")
@click.argument("name")
@click.option("--disk", default="backups", show_default=True, help="A disk of the server.")
@pass_output
def restore_command(output: Output, name: str, disk: str) -> int:
    """Bring a backup back into a store without rows; no worker may run meanwhile.

    Then: `sealtrail audit restore MANIFEST`, and start the workers. They read on from the restored
    commits, so the log must still hold what came after.
    """
    settings = load(WorkerSettings)
    with closing(open_store(settings, timeout_s=COPYING_S)) as store:
        parts = backup.restore(store, layout(settings), disk, name)
    _show_parts(output, parts)
    return OK


def _show_parts(output: Output, parts: list[backup.Part]) -> None:
    output.table(("name", "files", "bytes"), [(p.name, p.files, p.size) for p in parts])


def _show(
    output: Output,
    done: list[migrate.Applied],
    missing: list[migrate.Migration],
    sizes: list[Row],
    committed: list[Row],
) -> None:
    tables = ("table", "rows", "bytes", "parts", "bytes_cold")
    logs = ("log_id", "topic", "partition", "committed_offset")
    if output.json:
        output.data(
            {
                "applied": [f"{m.version:04}_{m.name}" for m in done],
                "pending": [f"{m.version:04}_{m.name}" for m in missing],
                "tables": [dict(zip(tables, row, strict=True)) for row in sizes],
                "committed": [dict(zip(logs, row, strict=True)) for row in committed],
            }
        )
        return
    states = [(f"{m.version:04}_{m.name}", "applied") for m in done]
    states += [(f"{m.version:04}_{m.name}", "pending") for m in missing]
    output.table(("migration", "state"), states)
    output.table(tables, sizes)
    output.table(logs, committed)
