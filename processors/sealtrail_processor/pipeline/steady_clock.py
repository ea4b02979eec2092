"""The machine's clock without its jumps.

A clock that is set while a worker runs, by an hour or a year, must not let every window expire at
once, nor stop arrivals. So the wall clock is read once, when the worker starts; from then on time
is what the monotonic clock counted since, which is never set, but steered by NTP like the wall
clock. How far the wall clock has gone away is shown; a worker that is started anew believes it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

# Below this NTP steers; above it sets.
JUMP_US = 1_000_000


class SteadyClock:
    """Microseconds since 1970, never set.

    Args:
        wall_ns: the machine's clock, nanoseconds since 1970.
        monotonic_ns: a clock that is never set, nanoseconds.
    """

    def __init__(self, wall_ns: Callable[[], int], monotonic_ns: Callable[[], int]) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._anchor = wall_ns() - monotonic_ns()
        self._told = 0

    def __call__(self) -> int:
        """The time."""
        return (self._anchor + self._monotonic_ns()) // 1000

    def jump_us(self) -> int:
        """How far the wall clock was set ahead since the start (back: negative), microseconds."""
        jump = self._wall_ns() // 1000 - self()
        if abs(jump - self._told) > JUMP_US:
            self._told = jump
            log.warning(
                "the machine's clock was set by %.3f s; this worker goes on without it until it is"
                " started anew",
                jump / 1e6,
            )
        return jump
