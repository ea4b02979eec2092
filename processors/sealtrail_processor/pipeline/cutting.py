"""How messages are cut: at holes of the log, and where a flush is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sealtrail_processor.judging.judge import Examined
    from sealtrail_processor.judging.model import RawMessage


@dataclass(frozen=True, slots=True)
class Caps:
    """How much one flush may hold."""

    events: int
    bytes: int


def parts(examined: Sequence[Examined], caps: Caps) -> Iterator[list[Examined]]:
    """Runs of messages that fit one flush each; a message that is larger alone is one by itself."""
    part: list[Examined] = []
    events = size = 0
    for item in examined:
        more, length = item.events, len(item.message.value or b"")
        if part and (events + more > caps.events or size + length > caps.bytes):
            yield part
            part, events, size = [], 0, 0
        part.append(item)
        events += more
        size += length
    if part:
        yield part


def runs(messages: Sequence[RawMessage]) -> list[list[RawMessage]]:
    """Messages without a hole between them."""
    runs: list[list[RawMessage]] = []
    for message in messages:
        if not runs or message.offset != runs[-1][-1].offset + 1:
            runs.append([])
        runs[-1].append(message)
    return runs
