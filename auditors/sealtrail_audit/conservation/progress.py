"""How far an earlier run came: a small JSON file, replaced as a whole.

Only what held is written: a run goes on where the first difference, or the first gap that may still
fill, begins. The totals go along, so that the sum over the seven dispositions is always of the
whole log.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sealtrail.errors import MISSHAPEN, ConfigurationError
from sealtrail_audit.conservation.law import Place

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

VERSION = 1
_NUMBERS = ("checked", "consumed", "skipped", "events")


@dataclass(frozen=True, slots=True)
class Mark:
    """Of one partition of a log: the sums of everything up to offset `checked`."""

    checked: int
    consumed: int
    skipped: int
    events: int
    fates: dict[str, int] = field(default_factory=dict)


def read(file: Path | None) -> dict[Place, Mark]:
    """Marks of an earlier run; none without a file, or before its first run.

    Raises:
        ConfigurationError: the file cannot be read, or is something else.
    """
    if file is None or not file.exists():
        return {}
    try:
        held = json.loads(file.read_text())
        if held["version"] != VERSION:
            raise ValueError(f"version {held['version']}")
        return {
            Place(str(e["log_id"]), str(e["topic"]), int(e["partition"])): _mark(e)
            for e in held["partitions"]
        }
    except (OSError, *MISSHAPEN) as error:
        raise ConfigurationError(
            f"{file} is no state of an earlier run: {error}",
            hint="remove it to check everything from the start",
        ) from None


def _mark(entry: dict[str, Any]) -> Mark:
    fates = {str(k): int(v) for k, v in entry["fates"].items()}
    checked, consumed, skipped, events = (int(entry[name]) for name in _NUMBERS)
    return Mark(checked, consumed, skipped, events, fates)


def write(file: Path, marks: Iterable[tuple[Place, Mark]]) -> None:
    """Replace the file.

    Raises:
        ConfigurationError: it cannot be written.
    """
    entries = [
        {"log_id": p.log_id, "topic": p.topic, "partition": p.partition}
        | {name: getattr(mark, name) for name in Mark.__dataclass_fields__}
        for p, mark in marks
    ]
    new = file.with_name(f"{file.name}.new")
    try:
        with new.open("w") as out:
            json.dump({"version": VERSION, "partitions": entries}, out)
            out.flush()
            os.fsync(out.fileno())
        new.replace(file)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error}") from None
