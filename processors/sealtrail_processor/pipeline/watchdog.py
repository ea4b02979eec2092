"""Ends a worker that lives but does not work; its supervisor starts another.

Stuck means that messages wait and that for longer than the session timeout plus a margin
- a partition of this worker's own stands still, whatever moves elsewhere: in a group of several the
  one that is stuck has to leave, and rebalances that others cause must not give it new patience; or
- nothing moves on the whole topic. That also catches a worker that is assigned nothing while nobody
  else works either. One whose own partitions are in order waits twice as long: the one that is to
  blame should have left by then.

Time counts only while the worker has nothing in hand: a store that takes half a minute for an
insert is slow, and other partitions wait for their turn. If many turns pass it by, a partition is
stuck all the same. A store or broker that is away is no reason: the worker waits and says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# Between two looks: what was not observed, for the broker was away, is nobody's fault.
LOOK_S = 5.0
TURNS = 20
# After an assignment: time to show that one works, but none to forget that one did not before.
# Workers that die time and again stop the whole group, which is no reason for the others to leave.
GRACE_S = 10.0


@dataclass(slots=True)
class Horizon:
    """Up to when all that the log held has been committed, microseconds since 1970.

    What did not come by then is missing, and not on its way. With steady traffic there is always a
    message on its way, so that lag alone would say nothing.
    """

    at: int = 0
    _asked: int = 0
    _ends: Mapping[int, int] | None = None

    def observe(self, now: int, ends: Mapping[int, int], done: Mapping[int, int]) -> None:
        """Take one look.

        Args:
            now: when it was begun, microseconds since 1970.
            ends: end of each partition of the topic.
            done: next offset of each partition, by this worker's or the group's commits.
        """
        if self._ends is not None:
            # A log that is shorter than it was is another one.
            another = any(ends.get(number, 0) < end for number, end in self._ends.items())
            if not another and any(done.get(n, 0) < end for n, end in self._ends.items()):
                return
            self.at = self.at if another else self._asked
        self._asked, self._ends = now, dict(ends)


@dataclass(slots=True)
class Watchdog:
    """Decides from observations; no I/O, no clock of its own.

    Args:
        patience_s: how long nothing may move while there is lag, seconds.
    """

    patience_s: float
    _best: dict[int, int] = field(default_factory=dict)
    # By partition: seconds that it stood still while the worker had nothing in hand, seconds in
    # all, and how often another of the worker's own moved meanwhile.
    _idle: dict[int, float] = field(default_factory=dict)
    _stood: dict[int, float] = field(default_factory=dict)
    _passed: dict[int, int] = field(default_factory=dict)
    _silent: float = 0.0
    _looked: float | None = None
    _calm_until: float = float("-inf")

    def assigned(self, now: float) -> None:
        """Partitions were handed out."""
        self._calm_until = now + GRACE_S

    def observe(  # noqa: PLR0913 - all that is seen at a glance, most by keyword
        self,
        now: float,
        ends: Mapping[int, int],
        done: Mapping[int, int],
        *,
        own: Collection[int],
        waiting: bool,
        working: bool,
    ) -> tuple[int, bool]:
        """Take one look.

        Args:
            now: seconds of a clock that never goes back.
            ends: end of each partition of the topic.
            done: next offset of each partition, by this worker's or the group's commits.
            own: partitions that this worker is assigned.
            waiting: whether the worker knowingly waits for the store or the broker.
            working: whether a flush is under way.

        Returns:
            (lag in messages, whether the worker is stuck).
        """
        step = 0.0 if self._looked is None else min(now - self._looked, LOOK_S)
        self._looked = now
        lags = {n: end - done.get(n, 0) for n, end in ends.items() if end > done.get(n, 0)}
        # A rebalance shows the group's offset for the worker's own and back: that moves nothing.
        moved = {n for n in done if done[n] > self._best.get(n, -1)}
        self._best |= {n: done[n] for n in moved}
        for number in ends:
            if waiting or number in moved or number not in lags:
                self._forget(number)
            else:
                self._count(number, step, turn=bool(moved & set(own)), working=working)
        if not lags or moved or waiting or working:
            self._silent = 0.0
        else:
            self._silent += step
        blamed = [n for n in own if n in lags]
        stuck = any(self._stuck(n) for n in blamed)
        patience = self.patience_s * (1 if blamed or not own else 2)
        stuck = stuck or self._silent > patience
        return sum(lags.values()), stuck and now >= self._calm_until

    def _forget(self, number: int) -> None:
        self._stood[number] = self._idle[number] = 0.0
        self._passed[number] = 0

    def _count(self, number: int, step: float, *, turn: bool, working: bool) -> None:
        self._stood[number] = self._stood.get(number, 0.0) + step
        self._idle[number] = self._idle.get(number, 0.0) + (0.0 if working else step)
        self._passed[number] = self._passed.get(number, 0) + turn

    def _stuck(self, number: int) -> bool:
        if self._passed[number] >= TURNS and self._stood[number] > self.patience_s:
            return True
        return self._idle[number] > self.patience_s
