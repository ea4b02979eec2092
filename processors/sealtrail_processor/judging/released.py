"""The headers of a message that comes back out of quarantine: where it lay."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "sealtrail-released-"
_NAMES = ("log-id", "topic", "partition", "offset")


def headers(coordinates: tuple[str, str, int, int]) -> tuple[tuple[str, bytes], ...]:
    """Headers that name a message's original coordinates (log_id, topic, partition, offset)."""
    return tuple(
        (PREFIX + name, str(part).encode()) for name, part in zip(_NAMES, coordinates, strict=True)
    )


def origin(found: Sequence[tuple[str, bytes]]) -> tuple[str, str, int, int] | None:
    """The coordinates that a message's headers name, None without (or with unreadable) ones."""
    values = {name: value for name, value in found if name.startswith(PREFIX)}
    if len(values) != len(_NAMES):
        return None
    try:
        log_id, topic, partition, offset = (values[PREFIX + n].decode()[:300] for n in _NAMES)
        return log_id, topic, int(partition), int(offset)
    except (KeyError, ValueError):
        return None


def strip(found: Sequence[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    """Headers without those of an earlier release."""
    return tuple((name, value) for name, value in found if not name.startswith(PREFIX))
