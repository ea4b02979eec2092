"""Up to where everything is done."""

from __future__ import annotations

from collections import deque


class InOrder:
    """Tells up to where everything is done when single things are done in any order."""

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._done: set[int] = set()

    def start(self, index: int) -> None:
        """Something begins; indexes rise."""
        self._open.append(index)

    def done(self, index: int) -> int | None:
        """Something is done: the last index with nothing open before it, if that moved."""
        self._done.add(index)
        last = None
        while self._open and self._open[0] in self._done:
            last = self._open.popleft()
            self._done.discard(last)
        return last

    def clear(self) -> None:
        """Forget everything."""
        self._open.clear()
        self._done.clear()

    def __len__(self) -> int:
        return len(self._open)
