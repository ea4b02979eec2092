"""What the conservation check asks of a broker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sealtrail_audit.conservation.law import Place


@dataclass(frozen=True, slots=True)
class Side:
    """A partition as the broker has it.

    start: first offset; end: the one after the last; group: the workers' committed offset, if any.
    """

    place: Place
    start: int
    end: int
    group: int | None


class Broker(Protocol):
    """A broker that can be asked; nothing is consumed or committed."""

    def sides(self, topic: str) -> Sequence[Side]:
        """Each partition of a topic, as it is now."""

    def message_in(self, place: Place, first: int, last: int) -> int | None:
        """Offset of the first message that the log holds among some offsets, None if none."""


@dataclass
class MemoryBroker:
    """A broker in memory: partitions, and the offsets that hold a message where some do not."""

    held: list[Side] = field(default_factory=list)
    messages: dict[Place, Collection[int]] = field(default_factory=dict)

    def sides(self, topic: str) -> Sequence[Side]:
        """Broker.sides."""
        return [side for side in self.held if side.place.topic == topic]

    def message_in(self, place: Place, first: int, last: int) -> int | None:
        """Broker.message_in."""
        there = self.messages.get(place)
        if there is None:
            return first
        return min((offset for offset in there if first <= offset <= last), default=None)
