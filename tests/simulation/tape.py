"""All chance of a simulated run: numbers from a seed, written down, played again, made fewer.

0 always stands for the harmless choice, so that a run with fewer or smaller numbers is a simpler
run; what comes after the end of a tape is 0. A failing tape is shrunk by leaving out pieces and by
zeroing them for as long as the run still fails.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Runs that shrinking may take.
MOST_RUNS = 400


class Tape:
    """Chance.

    Args:
        seed: where numbers come from; None: from `given` alone.
        given: numbers to play again.
    """

    def __init__(self, seed: int | None = None, given: Sequence[int] = ()) -> None:
        self._random = None if seed is None else random.Random(seed)
        self._given = list(given)
        self.numbers: list[int] = []

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""
        at = len(self.numbers)
        if self._random is not None:
            number = self._random.randrange(limit)
        else:
            number = self._given[at] % limit if at < len(self._given) else 0
        self.numbers.append(number)
        return number

    def one_in(self, odds: int) -> bool:
        """True once in so many times; never once the tape is at its end."""
        return self.below(odds) == odds - 1

    @property
    def ended(self) -> bool:
        """Whether only harmless choices come now."""
        return self._random is None and len(self.numbers) >= len(self._given)


def shrink(tape: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """A tape that still fails and is as short and as small as some hundred runs can make it."""
    best = list(tape)
    left = MOST_RUNS

    def attempt(candidate: list[int]) -> bool:
        nonlocal best, left
        if left <= 0 or candidate == best:
            return False
        left -= 1
        if not fails(candidate):
            return False
        best = candidate
        return True

    size = max(len(best) // 2, 1)
    while size >= 1:
        at = 0
        while at < len(best):
            if not attempt(best[:at] + best[at + size :]):
                attempt([*best[:at], *[0] * len(best[at : at + size]), *best[at + size :]])
                at += size
        size //= 2
    return best
