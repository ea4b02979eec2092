"""Ends a worker that lives but does not work; its supervisor starts another.

Stuck means: the topic holds messages that the group has not committed, and for longer than the
session timeout plus a margin nothing moved: not this worker's commits, not the group's. Looking at
the topic, not only at what is assigned, also catches a worker that is assigned nothing while nobody
else works either. A store or broker that is away is no reason: the worker waits and says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True)
class Watchdog:
    """Decides from observations; no I/O, no clock of its own.

    Args:
        patience_s: how long nothing may move while there is lag, seconds.
    """

    patience_s: float
    _seen: dict[int, int] = field(default_factory=dict)
    _since: float | None = None

    def assigned(self, now: float) -> None:
        """Partitions were handed out: whoever got some is given time to show it."""
        self._since = now

    def observe(
        self, now: float, ends: Mapping[int, int], done: Mapping[int, int], *, waiting: bool
    ) -> tuple[int, bool]:
        """Take one look.

        Args:
            now: seconds of a clock that never goes back.
            ends: end of each partition of the topic.
            done: next offset of each partition, by this worker's or the group's commits.
            waiting: whether the worker knowingly waits for the store or the broker.

        Returns:
            (lag in messages, whether the worker is stuck).
        """
        lag = sum(max(0, end - done.get(number, 0)) for number, end in ends.items())
        moved = any(done[number] != self._seen.get(number) for number in done)
        self._seen = dict(done)
        if lag == 0 or moved or waiting or self._since is None:
            self._since = now
            return lag, False
        return lag, now - self._since > self.patience_s
