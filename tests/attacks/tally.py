"""How many forgeries of each row of the catalogue were hidden, and what they were found as."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.attacks.registry import ROWS
from tests.catalogue import rows as catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.attacks.played import Played
    from tests.catalogue import Row
    from tests.scenarios.scene import Scene

# What may be forged: the other groups are faults of servers, and interfaces.
GROUPS = "ABCDF"


@dataclass(slots=True)
class Count:
    """Of one row; names: what the found ones are called."""

    hidden: int = 0
    found: int = 0
    names: Counter[str] = field(default_factory=Counter)

    def add(self, found: int, missed: int, names: Mapping[str, int]) -> None:
        """Count some more."""
        self.hidden += found + missed
        self.found += found
        self.names.update(names)


Table = dict[str, Count]


def named(scene: Scene, attacks: Iterable[str] | None = None) -> Counter[str]:
    """Names that forgeries must be found by: messages refused or dropped, and findings on others.

    Args:
        scene: that they were played in.
        attacks: only theirs.
    """
    only = None if attacks is None else set(attacks)
    bad = [s for s in scene.sent if s.disposition.value not in ("accepted", "heartbeat")]
    refused = {id(s) for s in bad}
    names = Counter(
        s.disposition.value if s.code is None else s.code.value
        for s in bad
        if only is None or s.attack in only
    )
    names.update(
        e.code.value
        for e in scene.expected
        if (only is None or e.attack in only) and id(e.sent) not in refused
    )
    return names


def of_played(seen: Played) -> Table:
    """Each attack counts for each of its rows."""
    table: Table = {}
    for attack in sorted({s.attack for s in seen.scene.sent} & set(ROWS)):
        names = named(seen.scene, [attack])
        missed = min(len(seen.wrong(attack)), names.total())
        for row in ROWS[attack]:
            table.setdefault(row, Count()).add(names.total() - missed, missed, names)
    return table


def _rows() -> list[Row]:
    """Of the catalogue, those that may be forged."""
    return [row for row in catalogue().values() if row.id[0] in GROUPS]


def lines(table: Table) -> list[tuple[str, str, str]]:
    """The rows of the groups: id, attack, what became of it."""
    told = []
    for row in _rows():
        count = table.get(row.id, Count())
        names = ", ".join(f"{name} {number}" for name, number in count.names.most_common())
        said = f"{count.hidden:5} hidden {count.found:5} found  {names}"
        told.append(
            (row.id, row.attack, f"waits for the {row.waits_for}" if row.waits_for else said)
        )
    return told


def lacking(table: Table) -> list[str]:
    """Rows of which nothing was hidden although they wait for nothing."""
    return [
        row.id for row in _rows() if not row.waits_for and not table.get(row.id, Count()).hidden
    ]


def figures(table: Table) -> dict[str, Any]:
    """For the last line."""
    said: dict[str, Any] = {}
    for row in _rows():
        count = table.get(row.id, Count())
        said[row.id] = (
            {"waits_for": row.waits_for}
            if row.waits_for
            else {"hidden": count.hidden, "found": count.found, "names": dict(count.names)}
        )
    return said
