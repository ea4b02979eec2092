"""The same migrations on a cluster: replicated tables, and databases for reading all shards. Pure.

A partition of the log belongs to one shard for ever (`shards`): its worker inserts into a replica
of that shard, never through `Distributed`, whose queue acknowledges before anything is replicated.
So on a cluster

- a statement runs ON CLUSTER, and its MergeTree becomes a replicated one with the same window of
  tokens;
- tables that are about no partition are copied to every server (`EVERYWHERE`), so that joins stay
  within a server;
- the views for people are made in `<views>_local`, over the tables of their server, and
  `<views>.NAME` reads all shards; `<database>_all.NAME` does so for base tables. Reading alone
  goes through `Distributed`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sealtrail.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Written by the linker, the control room and migrations, and joined with what every shard has.
EVERYWHERE = frozenset({"key_records", "link_verdicts", "migrations", "quarantine_acts"})
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
LOCAL = "_local"
ALL = "_all"

_OBJECT = re.compile(
    r"^(CREATE (?:OR REPLACE )?(?:TABLE|VIEW|MATERIALIZED VIEW)(?: IF NOT EXISTS)?"
    r"|ALTER TABLE|DROP (?:TABLE|VIEW)(?: IF EXISTS)?) (\w+)\.(\w+)"
)
_ENGINE = re.compile(r"ENGINE = (\w*MergeTree)\b(\((.*?)\))?")
_WINDOW = re.compile(r"\bnon_replicated_deduplication_window\b")


def checked(cluster: str) -> str:
    """The name of a cluster as it goes into SQL.

    Raises:
        ConfigurationError: it is no name.
    """
    if not IDENTIFIER.fullmatch(cluster):
        raise ConfigurationError(f"{cluster!r} is no name for a cluster")
    return cluster


def replicated(statement: str, cluster: str) -> str:
    """A statement of a migration as it runs on a cluster.

    Raises:
        ConfigurationError: the statement is of a kind that this does not know.
    """
    found = _OBJECT.match(statement)
    if found is None:
        raise ConfigurationError(
            f"this statement cannot run on a cluster: {statement[:60]}",
            hint="cluster.py knows CREATE, ALTER TABLE and DROP",
        )
    database, name = found[2], found[3]
    text = f"{found[0]} ON CLUSTER {cluster}{statement[found.end() :]}"
    shard = "all" if name in EVERYWHERE else "{shard}"
    path = f"'/clickhouse/tables/{shard}/{database}/{name}', '{{replica}}'"

    def engine(match: re.Match[str]) -> str:
        more = f", {match[3]}" if match[3] else ""
        return f"ENGINE = Replicated{match[1]}({path}{more})"

    text = _ENGINE.sub(engine, text, count=1)
    return _WINDOW.sub("replicated_deduplication_window", text)


def reading(
    cluster: str, database: str, views: str, objects: Iterable[tuple[str, str]]
) -> Iterator[str]:
    """Statements that make all shards readable at once; each may run again.

    Args:
        cluster: its name.
        database: of the base tables.
        views: for people.
        objects: (database, name) of the tables and views of one server.
    """
    everything = f"{database}{ALL}"
    for name in (everything, views):
        yield f"CREATE DATABASE IF NOT EXISTS {name} ON CLUSTER {cluster}"
    for where, name in sorted(objects):
        target = views if where == f"{views}{LOCAL}" else everything
        if where == database and name in EVERYWHERE:
            # Every server has all of it: one copy is read.
            yield (
                f"CREATE OR REPLACE VIEW {target}.{name} ON CLUSTER {cluster}"  # noqa: S608 - our own names
                f" AS SELECT * FROM {where}.{name}"
            )
            continue
        yield (
            f"CREATE TABLE IF NOT EXISTS {target}.{name} ON CLUSTER {cluster} AS {where}.{name}"
            f" ENGINE = Distributed({cluster}, {where}, {name})"
        )
