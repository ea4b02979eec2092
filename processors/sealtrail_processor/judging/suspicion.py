"""What earlier deaths of workers say about messages: which are committed few at a time.

- Messages under which a worker died are committed FEW at a time from then on, and one by one where
  it had no more than FEW in hand. What killed workers ALONE times, and has left nothing in the
  store, is quarantined unread.
- Who was killed while it waited for the store counts for care alone, and that only when it was not
  the first to die of these messages: nearly all kills from outside are such deaths. Who had more
  than one message in hand counts for care alone, too: a kill from outside finds other messages each
  time, a poisonous one itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sealtrail_processor.judging.model import Log, RawMessage

ALONE = 3
# Most deaths are kills from outside, with all in hand that several flushes hold: one by one these
# would take minutes, during which the partitions of the dead stand still.
FEW = 16
# Phase of a death at WORK that several messages, partitions or threads may be to blame for.
SHARED = "SHARED"


class Phase(IntEnum):
    """What a worker is at; a death while IDLE is nobody's doing."""

    IDLE = 0
    WORK = 1
    WAIT = 2
    # An exception that no outside can bring about: the worker ends itself.
    FAULT = 3


@dataclass(frozen=True, slots=True)
class Death:
    """A worker died while it had these offsets in hand; `mark` names the one time that it did."""

    log: Log
    first: int
    last: int
    phase: str
    mark: str


@dataclass(slots=True)
class Suspicion:
    """What earlier deaths say about a partition's next messages.

    Args:
        held: first and last offset that workers had in hand when they died, one pair a death that
            asks for care.
        alone: how often a worker died with just this offset in hand.
    """

    held: list[tuple[int, int]] = field(default_factory=list)
    alone: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, deaths: Iterable[Death]) -> Suspicion:
        """From the deaths at or above the cursor."""
        made, known = cls(), list(deaths)
        for death in known:
            if _asks_for_care(death, known):
                made.held.append((death.first, death.last))
            if death.first == death.last and death.phase in (Phase.WORK.name, Phase.FAULT.name):
                made.alone[death.first] = made.alone.get(death.first, 0) + 1
        return made

    @property
    def until(self) -> int:
        """From here on no offset asks for care."""
        return max((last + 1 for _, last in self.held), default=0)

    def condemns(self, offset: int) -> bool:
        """Whether a message has killed often enough."""
        return self.alone.get(offset, 0) >= ALONE

    def groups(self, messages: Sequence[RawMessage]) -> Iterator[Sequence[RawMessage]]:
        """What is committed together: fewer where a worker died, then the rest at once."""
        until = self.until
        care = [m for m in messages if m.offset < until]
        for most, alike in groupby(care, lambda m: self._most(m.offset)):
            together = list(alike)
            for at in range(0, len(together), most):
                yield together[at : at + most]
        if len(care) < len(messages):
            yield messages[len(care) :]

    def _most(self, offset: int) -> int:
        """How many messages this one may be committed with."""
        sizes = (last - first + 1 for first, last in self.held if first <= offset <= last)
        return FEW if min(sizes, default=FEW + 1) > FEW else 1


def _asks_for_care(death: Death, known: Sequence[Death]) -> bool:
    """Whether its messages may be why, as far as one death can tell."""
    return death.phase != Phase.WAIT.name or any(
        other.first <= death.last and death.first <= other.last
        for other in known
        if other.mark != death.mark
    )
