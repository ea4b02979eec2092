"""Backup and restore of the store by the engine's own BACKUP and RESTORE.

A backup is not one moment: the engine takes the tables one after the other while the worker goes
on. So what makes rows visible is taken first, and put back last:

- `commits` are copied before all other tables: every commit in the copy was made after its rows,
  which the later copy therefore holds. Rows of later flushes come with it and stay invisible;
  the worker, which reads on from the commits, writes them again and identical.
- On restore the rows come first: broken off half way, nothing is visible that is not whole.

Names go into SQL, so they are checked; the disk is one that the server's configuration allows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail.errors import ConfigurationError, SealtrailError

if TYPE_CHECKING:
    from sealtrail_processor.store.migrate import Layout
    from sealtrail_processor.store.port import Row, Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VISIBLE = ("commits", "commit_ends")
_DONE = {"BACKUP_CREATED", "RESTORED"}


class BackupFailed(SealtrailError):  # noqa: N818 - says what happened
    """The engine broke a backup or restore off."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one BACKUP or RESTORE did: its name, files, and bytes as they lie on disk."""

    name: str
    files: int
    size: int


def backup(store: Store, layout: Layout, disk: str, name: str) -> list[Part]:
    """Copy everything to a disk of the server.

    Args:
        store: who runs it, as a user who may.
        layout: names of the databases.
        disk: a disk that the server's configuration allows for backups.
        name: of the backup; there must be none of that name.

    Raises:
        ConfigurationError: a name is none.
        StoreRefused: the server does not allow it, or there is such a backup.
        BackupFailed: it broke off.
    """
    commits = ", ".join(f"TABLE {layout.database}.{table}" for table in _VISIBLE)
    others = ", ".join(f"{layout.database}.{table}" for table in _VISIBLE)
    rows = f"DATABASE {layout.local_views}, DATABASE {layout.database} EXCEPT TABLES {others}"
    return [
        _run(store, f"BACKUP {commits} TO {_place(disk, name, 'commits')}"),
        _run(store, f"BACKUP {rows} TO {_place(disk, name, 'rows')}"),
    ]


def restore(store: Store, layout: Layout, disk: str, name: str) -> list[Part]:
    """Bring everything back from a disk of the server, into databases without rows.

    Args:
        store: who runs it.
        layout: names of the databases, as they were.
        disk: where the backup lies.
        name: of the backup.

    Raises:
        ConfigurationError: a name is none, or the tables hold rows.
        StoreRefused: there is no such backup.
        BackupFailed: it broke off; drop the databases, and begin anew.
    """
    for database in (layout.database, layout.local_views):
        store.command(layout.create(database))
    held = rows_held(store, layout)
    if held:
        raise ConfigurationError(
            f"the store holds {held} rows: a backup is not mixed with them",
            hint=f"drop the databases {layout.database} and {layout.views}, or name others",
        )
    return [
        _run(store, f"RESTORE ALL FROM {_place(disk, name, part)}") for part in ("rows", "commits")
    ]


def rows_held(store: Store, layout: Layout) -> int:
    """How many rows the tables hold now."""
    found = store.query(
        "SELECT sum(rows) FROM system.parts WHERE active AND database = {d:String}"
        " AND table != 'migrations'",
        {"d": layout.database},
    )
    return int(found[0][0] or 0)


def _place(disk: str, name: str, part: str) -> str:
    for text in (disk, name):
        if not _NAME.fullmatch(text):
            raise ConfigurationError(
                f"{text!r} is no name for a backup or disk",
                hint="letters, digits, dots, dashes and underscores, 100 at most",
            )
    return f"Disk('{disk}', '{name}/{part}')"


def _run(store: Store, statement: str) -> Part:
    """Run it to its end and ask what it did."""
    answers: list[Row] = store.query(statement)
    identity, status = answers[0]
    if status not in _DONE:
        raise BackupFailed(f"the server says {status}", hint="see system.backups and its log")
    found = store.query(
        "SELECT name, num_files, total_size FROM system.backups WHERE id = {id:String}",
        {"id": identity},
    )
    return Part(*found[0])
