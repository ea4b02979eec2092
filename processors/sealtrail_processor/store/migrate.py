"""Versioned migrations of the store.

- files NNNN_name.sql under deploy/clickhouse/migrations, applied in order, each once;
- the table `migrations` keeps version, name and SHA-256 of each applied file (before substitution):
  a changed or vanished applied file is an error, never applied again;
- statements end with a semicolon at a line's end; each is idempotent (IF NOT EXISTS, OR REPLACE),
  so that a file which broke off half way is simply run again;
- ${database}, ${views}, ${storage_policy} and ${cold_after_days} are put in when a file is applied;
- on a cluster the same files make replicated tables (`cluster`).
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail import resources
from sealtrail.errors import ConfigurationError
from sealtrail_processor.store import cluster

if TYPE_CHECKING:
    from pathlib import Path

    from sealtrail_processor.store.port import Store

_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
# What stands before a statement.
_COMMENTS = re.compile(r"\A(?:\s*--[^\n]*\n)+")
_END = re.compile(r";[ \t]*(?:--[^\n]*)?\n")


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and choices of an installation.

    Args:
        database: base tables.
        views: views for people.
        storage_policy: policy with the volumes hot and cold.
        cold_after_days: when parts move to the volume cold.
        cluster: ClickHouse's name of the cluster; empty for one server (see `cluster`).
    """

    database: str = "sealtrail"
    views: str = "provenance"
    storage_policy: str = "hot_cold"
    cold_after_days: int = 90
    cluster: str = ""

    @property
    def local_views(self) -> str:
        """Database of the views over one server's tables."""
        return f"{self.views}{cluster.LOCAL}" if self.cluster else self.views

    @property
    def _on(self) -> str:
        return f" ON CLUSTER {self.cluster}" if self.cluster else ""

    def create(self, database: str) -> str:
        """The statement that makes a database."""
        return f"CREATE DATABASE IF NOT EXISTS {database}{self._on}"

    def adapted(self, statement: str) -> str:
        """A statement as it runs on this installation."""
        if not self.cluster:
            return statement
        return cluster.replicated(_COMMENTS.sub("", statement).strip(), self.cluster)

    def __post_init__(self) -> None:
        for name in (self.database, self.views, self.storage_policy):
            if not _IDENTIFIER.fullmatch(name):
                raise ConfigurationError(f"{name!r} is no name for a database or policy")
        if self.cold_after_days < 1:
            raise ConfigurationError("cold_after_days must be at least 1")
        if self.cluster:
            cluster.checked(self.cluster)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> bytes:
        """SHA-256 of the file, before substitution."""
        return sha256(self.text.encode()).digest()

    def statements(self, layout: Layout) -> list[str]:
        """The statements to run, without comments between them."""
        values = {
            "database": layout.database,
            "views": layout.local_views,
            "storage_policy": layout.storage_policy,
            "cold_after_days": str(layout.cold_after_days),
        }
        try:
            text = string.Template(self.text).substitute(values)
        except (KeyError, ValueError) as error:
            raise ConfigurationError(
                f"migration {self.version:04}: unknown placeholder {error}"
            ) from None
        parts = _END.split(text if text.endswith("\n") else text + "\n")
        bare = [p.strip() for p in parts if re.sub(r"--[^\n]*", "", p).strip()]
        return [layout.adapted(statement) for statement in bare]


@dataclass(frozen=True, slots=True)
class Applied:
    """A row of the table migrations; applied_at in microseconds since 1970."""

    version: int
    name: str
    checksum: bytes
    applied_at: int


def shipped(folder: Path | None = None) -> list[Migration]:
    """The migrations of this installation, in order.

    Raises:
        ConfigurationError: a stray file, or versions with a hole.
    """
    folder = folder or resources.path("clickhouse", "migrations")
    found = []
    for file in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(file.name)
        if match is None:
            raise ConfigurationError(
                f"{file.name} is no migration", hint="name it NNNN_what_it_does.sql"
            )
        found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    if [m.version for m in found] != list(range(1, len(found) + 1)):
        raise ConfigurationError(f"migrations in {folder} are not numbered 1 to {len(found)}")
    return found


def applied(store: Store, layout: Layout) -> list[Applied]:
    """What the store says it has; nothing when it was never migrated."""
    there = store.query(
        "SELECT count() FROM system.tables WHERE database = {d:String} AND name = 'migrations'",
        {"d": layout.database},
    )
    if not there[0][0]:
        return []
    rows = store.query(
        "SELECT version, name, checksum, toUnixTimestamp64Micro(applied_at)"
        " FROM migrations FINAL ORDER BY version"
    )
    return [Applied(*row) for row in rows]


def pending(migrations: list[Migration], done: list[Applied]) -> list[Migration]:
    """What is still to be applied.

    Raises:
        ConfigurationError: an applied file was changed or is missing, or the store is newer than
            this installation.
    """
    known = {m.version: m for m in migrations}
    for row in done:
        ours = known.get(row.version)
        if ours is None:
            raise ConfigurationError(
                f"the store has migration {row.version:04}_{row.name}, this installation has not",
                hint="install the newer version of sealtrail",
            )
        if ours.checksum != row.checksum:
            raise ConfigurationError(
                f"migration {row.version:04}_{row.name} was changed after it was applied",
                hint="restore the file, and write a new migration instead",
            )
    versions = {row.version for row in done}
    return [m for m in migrations if m.version not in versions]


def migrate(
    store: Store, layout: Layout, now: int, migrations: list[Migration] | None = None
) -> list[Migration]:
    """Apply what is missing.

    Args:
        store: who runs it.
        layout: names to put in.
        now: microseconds since 1970, for the table's applied_at.
        migrations: those of this installation unless given.

    Returns:
        What was applied now.

    Raises:
        ConfigurationError: see `pending`.
    """
    migrations = shipped() if migrations is None else migrations
    store.command(layout.create(layout.database))
    store.command(layout.create(layout.local_views))
    store.command(
        layout.adapted(
            f"CREATE TABLE IF NOT EXISTS {layout.database}.migrations (version UInt32, name String,"
            " checksum FixedString(32), applied_at DateTime64(6, 'UTC'))"
            " ENGINE = ReplacingMergeTree ORDER BY version"
            " SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,"
            " non_replicated_deduplication_window = 100"
        )
    )
    todo = pending(migrations, applied(store, layout))
    for migration in todo:
        for statement in migration.statements(layout):
            store.command(statement)
        # Last: a file that broke off half way is not recorded, and runs again.
        store.insert(
            "migrations",
            ("version", "name", "checksum", "applied_at"),
            [(migration.version, migration.name, migration.checksum, now)],
            token=f"migration/{migration.version}/{migration.checksum.hex()}",
        )
    if layout.cluster:
        _make_readable(store, layout)
    return todo


def _make_readable(store: Store, layout: Layout) -> None:
    """Tables that read all shards, for whatever the migrations have made."""
    objects = store.query(
        "SELECT database, name FROM system.tables WHERE database IN ({d:String}, {v:String})"
        " AND engine NOT IN ('MaterializedView', 'Null')",
        {"d": layout.database, "v": layout.local_views},
    )
    pairs = [(row[0], row[1]) for row in objects]
    for statement in cluster.reading(layout.cluster, layout.database, layout.views, pairs):
        store.command(statement)
