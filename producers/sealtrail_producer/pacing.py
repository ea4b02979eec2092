"""Holds a bulk feeder back while the pipeline lags.

What a consumer group has not consumed yet stays below a bound per partition; with more to send the
feeder waits. What counts is what this process sent, and, estimated by the largest batch of ours,
what others had left at the start. When a log begins anew (its end lies before what we were given),
everything that was not consumed is sent again.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sealtrail.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealtrail_producer.ports import Clock, GroupOffsets, Message

log = logging.getLogger(__name__)

REFRESH_S = 0.1


@dataclass(slots=True)
class _Lane:
    """One partition: batches under way, delivered ones, and where the log stood at first."""

    base: int
    consumed: int
    under_way: dict[int, int] = field(default_factory=dict)
    delivered: deque[tuple[int, int, int]] = field(default_factory=deque)
    end: int = 0
    largest: int = 0

    def waiting(self) -> int:
        ours = sum(self.under_way.values()) + sum(size for _, _, size in self.delivered)
        return ours + max(self.base - self.consumed, 0) * self.largest


class Pacer:
    """Answers whether a batch may be sent now.

    Args:
        connect: opens the group's offsets, at the first question.
        limit: bytes per partition that may wait for it.
        clock: for the time between two looks.
    """

    def __init__(self, connect: Callable[[], GroupOffsets], limit: int, clock: Clock) -> None:
        self._connect = connect
        self._limit = limit
        self._clock = clock
        self._opened: GroupOffsets | None = None
        self._cluster = ""
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._looked = clock.steady_s()

    @property
    def _offsets(self) -> GroupOffsets:
        if self._opened is None:
            self._opened = self._connect()
        return self._opened

    def admits(self, message: Message) -> bool:
        """Whether it may be sent now; one that is larger than the limit goes when it is alone."""
        try:
            lane = self._lane(message)
        except UnavailableError as error:
            log.debug("%s", error.message)
            return False
        lane.largest = max(lane.largest, message.size)
        waiting = lane.waiting()
        return waiting == 0 or waiting + message.size <= self._limit

    def _lane(self, message: Message) -> _Lane:
        place = (message.topic, message.partition)
        if place not in self._lanes:
            self._cluster = self._cluster or self._offsets.cluster()
            self._lanes[place] = _Lane(
                base=self._offsets.end(*place), consumed=self._offsets.consumed(*place)
            )
        return self._lanes[place]

    def sent(self, index: int, message: Message) -> None:
        """A batch was handed over."""
        self._lanes[message.topic, message.partition].under_way[index] = message.size

    def delivered(self, index: int, message: Message, offset: int) -> None:
        """The brokers took a batch."""
        lane = self._lanes[message.topic, message.partition]
        size = lane.under_way.pop(index, message.size)
        lane.delivered.append((index, offset, size))
        lane.end = max(lane.end, offset + 1)

    def refresh(self) -> tuple[list[int], bool]:
        """Look how far the group is, at most every REFRESH_S.

        Returns:
            Indexes of batches that were consumed since, and whether a log began anew.

        Raises:
            UnavailableError: the brokers do not tell.
        """
        now = self._clock.steady_s()
        if now - self._looked < REFRESH_S:
            return [], False
        self._looked = now
        found: list[int] = []
        waiting = {p: lane for p, lane in self._lanes.items() if lane.waiting()}
        if waiting and self._offsets.cluster() != self._cluster:
            return found, True
        for place, lane in waiting.items():
            if self._offsets.end(*place) < lane.end:
                return found, True
            lane.consumed = self._offsets.consumed(*place)
            while lane.delivered and lane.delivered[0][1] < lane.consumed:
                found.append(lane.delivered.popleft()[0])
        return found, False

    def clear(self) -> None:
        """Forget everything; a new connection begins."""
        self._lanes.clear()
        self._cluster = ""

    def close(self) -> None:
        """Leave the brokers."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def abandon(self) -> None:
        """Forget the connection in a forked child."""
        if self._opened is not None:
            self._opened.abandon()
            self._opened = None
