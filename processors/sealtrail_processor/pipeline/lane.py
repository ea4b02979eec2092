"""What waits to become the next flush of some partitions. For asyncio; knows nothing of Faust.

A flush is taken when it is full, or when its first message has waited for so long. While the flush
before is being committed messages gather: under load the next one is ready at once, and it is as
large as the load makes it; without load no message waits longer than it must.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sealtrail_processor.settings import WorkerSettings


class Lane:
    """A queue of events whose messages have a `value`; one task puts, another one takes.

    Args:
        settings: messages, bytes and seconds of a flush.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._messages = settings.flush_messages
        self._bytes = settings.flush_bytes
        self._wait_s = settings.flush_wait_s
        self._held: deque[tuple[float, int, Any]] = deque()
        self._size = 0
        self._changed = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether there is a whole flush."""
        return len(self._held) >= self._messages or self._size >= self._bytes

    async def put(self, event: Any) -> None:
        """Add an event; waits while there is a whole flush already."""
        while self.full:
            self._changed.clear()
            await self._changed.wait()
        size = len(event.message.value or b"")
        self._held.append((time.monotonic(), size, event))
        self._size += size
        self._changed.set()

    async def take(self) -> list[Any]:
        """The events of the next flush, at least one, in the order in which they came."""
        while not self.full:
            left = self._held[0][0] + self._wait_s - time.monotonic() if self._held else None
            if left is not None and left <= 0:
                break
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                break
        events: list[Any] = []
        taken = 0
        while self._held and len(events) < self._messages and taken < self._bytes:
            _, size, event = self._held.popleft()
            taken += size
            events.append(event)
        self._size -= taken
        self._changed.set()
        return events
