"""Expected rows against stored ones. Pure.

A store keeps copies of a row until it merges them: equal copies are one row. A row that has the key
of another but not its values replaces it sooner or later and is named ROW_CHANGED.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sealtrail import ids
from sealtrail.findings import Code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sealtrail_audit.store.columns import Columns, Table


@dataclass(frozen=True, slots=True)
class Finding:
    """One changed, missing or added row, or a batch or chain that does not hold.

    Args:
        table: where; empty for a chain.
        key: what names the row.
        column: the first column that differs; empty when the row is missing or added.
        stored, computed: its values; None when there is no such row.
    """

    code: Code
    table: str
    key: Mapping[str, Any]
    detail: str = ""
    column: str = ""
    stored: Any = None
    computed: Any = None


def same(expected: Columns, stored: Columns) -> bool:
    """Whether all columns are equal, row by row (lists compare in C: this is the fast path)."""
    return all(stored[name] == values for name, values in expected.items())


def differences(
    table: Table, place: Mapping[str, Any], expected: Columns, stored: Columns
) -> Iterator[Finding]:
    """Name every row of one message that is not as it must be.

    Args:
        table: what is compared.
        place: log_id, topic, partition and offset of the message.
        expected: columns of the rows that must be there.
        stored: columns of the rows that are there.
    """
    names = list(expected)
    wanted = _by_key(table, expected, names)
    found = _by_key(table, stored, names)
    for key, rows in wanted.items():
        must = rows[0]
        there = found.pop(key, [])
        named = _named(table, place, key, names, must)
        for other in there:
            if other != must:
                yield changed(table, named, names, other, must)
        if not there:
            yield Finding(Code.ROW_MISSING, table.name, named, computed=_shown(names, must))
    for key, rows in found.items():
        for row in rows:
            named = _named(table, place, key, names, row)
            yield Finding(Code.ROW_ADDED, table.name, named, stored=_shown(names, row))


def _named(
    table: Table,
    place: Mapping[str, Any],
    key: tuple[Any, ...],
    names: list[str],
    row: list[Any],
) -> dict[str, Any]:
    """What names a row: coordinates, key, and the event as people write it."""
    named = {**place, **dict(zip(table.key, key, strict=True))}
    for column in ("event_id", "child_id"):
        if column in names:
            named["event"] = ids.text(row[names.index(column)])
    return named


def changed(
    table: Table, key: Mapping[str, Any], names: list[str], stored: list[Any], computed: list[Any]
) -> Finding:
    """A row that has other values than it must have; the first such column is named."""
    at = next(i for i, pair in enumerate(zip(stored, computed, strict=True)) if pair[0] != pair[1])
    also = [
        name
        for name, is_, must in zip(
            names[at + 1 :], stored[at + 1 :], computed[at + 1 :], strict=True
        )
        if is_ != must
    ]
    detail = f"also {', '.join(also)}" if also else ""
    return Finding(Code.ROW_CHANGED, table.name, key, detail, names[at], stored[at], computed[at])


def _by_key(
    table: Table, columns: Columns, names: list[str]
) -> dict[tuple[Any, ...], list[list[Any]]]:
    rows: dict[tuple[Any, ...], list[list[Any]]] = {}
    keys = [columns[name] for name in table.key]
    for index, row in enumerate(zip(*(columns[name] for name in names), strict=True)):
        held = rows.setdefault(tuple(column[index] for column in keys), [])
        if list(row) not in held:
            held.append(list(row))
    return rows


def _shown(names: list[str], row: list[Any]) -> dict[str, Any]:
    return dict(zip(names, row, strict=True))
