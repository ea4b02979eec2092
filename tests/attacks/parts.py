"""Parts of the store's tables: dropped by SQL, and harmed as files while the store is down."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.attacks import edits
from tests.scenarios import conservation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from tests.conftest import Stack

# What is done to files: the part's folder is removed, its data end half-way, its content is that of
# an older part.
FILES = ("removed", "cut", "exchanged")
# Each row of a part that is gone is a finding, and an audit prints so many and no more.
_PART_ROWS = 1_000
_SMALL = f"active AND database = 'sealtrail' AND rows <= {_PART_ROWS}"


@dataclass(frozen=True, slots=True)
class Gone:
    """A part that is no longer what was written, and the messages whose rows stood there."""

    kind: str
    table: str
    name: str
    places: frozenset[tuple[int, int]]

    @property
    def named(self) -> set[tuple[str, str, int, int]]:
        """As findings of the audit name it: code, table, partition, offset."""
        return {("ROW_MISSING", self.table, *place) for place in self.places}


def merges(settings: Mapping[str, str], order: str) -> None:
    """STOP or START them, in all tables."""
    for table in edits.TABLES:
        edits.command(settings, f"SYSTEM {order} MERGES sealtrail.{table}")


def _small(
    settings: Mapping[str, str], tables: Collection[str], kind: str, taken: Sequence[Gone]
) -> Iterator[Gone]:
    """The smallest parts, none of which holds rows of a message that another one has."""
    hit = {place for part in taken for place in part.places}
    names = ", ".join(map(repr, tables))
    rows = conservation.query(
        settings,
        f"SELECT table, name FROM system.parts WHERE {_SMALL} AND table IN ({names}) "
        "ORDER BY rows, table, name",
    )
    for row in rows:
        table, name = row["table"], row["name"]
        inside = conservation.query(
            settings,
            f"SELECT DISTINCT partition, offset FROM {table} WHERE _part = '{name}' "
            "AND topic = 'provenance.events'",
        )
        places = frozenset((r["partition"], r["offset"]) for r in inside)
        if places and not places & hit:
            hit |= places
            yield Gone(kind, table, name, places)


def drop(settings: Mapping[str, str], count: int) -> list[Gone]:
    """Drop so many small parts of single tables, as who may write SQL does."""
    # Not of dispositions: what becomes of a commit's digest is an edit of its own.
    dropped = [*islice(_small(settings, edits.TABLES[:-1], "dropped", []), count)]
    for part in dropped:
        edits.command(settings, f"ALTER TABLE {part.table} DROP PART '{part.name}'")
    return dropped


def harm_files(stack: Stack, each: int, taken: Sequence[Gone]) -> list[Gone]:
    """Harm so many cold parts in each way while the store is down.

    Args:
        stack: whose worker has ended, with small parts that are not merged.
        each: parts a way.
        taken: parts that are gone already.
    """
    settings = conservation.variables(stack.state_dir)
    cold = "SELECT name FROM system.tables WHERE database = 'sealtrail' AND storage_policy != ''"
    tables = [
        row["name"]
        for row in conservation.query(settings, f"{cold} AND storage_policy != 'default'")
        if row["name"] in edits.PER_EVENT
    ]
    harmed = list[Gone]()
    for kind in FILES:
        harmed += islice(_small(settings, tables, kind, [*taken, *harmed]), each)
    places = {part: _cold(settings, part) for part in harmed}
    older = {part: _older(settings, part, harmed) for part in harmed if part.kind == "exchanged"}
    stack.stop("store")
    for part, folder in places.items():
        if part.kind == "cut":
            data = max(folder.glob("*.bin"), key=lambda f: f.stat().st_size)
            os.truncate(data, data.stat().st_size // 2)
            continue
        shutil.rmtree(folder)
        if part in older:
            shutil.copytree(older[part], folder)
    stack.start("store")
    return harmed


def _cold(settings: Mapping[str, str], part: Gone) -> Path:
    """Move a part to the cold volume; its folder."""
    edits.command(settings, f"ALTER TABLE {part.table} MOVE PART '{part.name}' TO VOLUME 'cold'")
    where = f"active AND database = 'sealtrail' AND table = '{part.table}'"
    (row,) = _parts(settings, f"{where} AND name = '{part.name}'")
    assert row["disk_name"] == "cold", row
    return Path(row["path"].rstrip("/"))


def _older(settings: Mapping[str, str], part: Gone, harmed: Sequence[Gone]) -> Path:
    """The folder of another part of the same table and month, that nothing is done to."""
    names = ", ".join(repr(p.name) for p in harmed if p.table == part.table)
    month = part.name.partition("_")[0]
    rows = _parts(
        settings,
        f"{_SMALL} AND table = '{part.table}' AND partition_id = '{month}' "
        f"AND name NOT IN ({names})",
    )
    return Path(rows[0]["path"].rstrip("/"))


def _parts(settings: Mapping[str, str], where: str) -> list[dict[str, Any]]:
    query = f"SELECT path, disk_name FROM system.parts WHERE {where} ORDER BY min_block_number"
    return conservation.query(settings, query)
