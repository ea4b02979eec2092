"""Forged references that lead back to where they began: found, and the search ends in any case."""

from __future__ import annotations

import heapq
import itertools
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealtrail_processor.judging.ports import Clock
    from sealtrail_processor.linking.edges import Edge
    from sealtrail_processor.linking.link_store import LinkStore

NODES, SECONDS = 20_000, 5.0
# A second search has more time: the store may have been busy.
AGAIN_SECONDS = 15.0
# How long a mismatch is searched again, with pauses that double, and how many are.
WINDOW_US, FIRST_US, LAST_US = 600_000_000, 2_000_000, 60_000_000
PENDING = 1_000


class Rings:
    """Mismatches that led into no circle yet.

    A circle has a reference that does not hold, and others that may be committed after it: of other
    partitions, or sent later on purpose. So each is searched again for a while.

    Args:
        store: answers whose parents are whose.
        now: microseconds since 1970.
    """

    def __init__(self, store: LinkStore, now: Clock) -> None:
        self._store = store
        self._now = now
        self._count = itertools.count()
        # When it is due, a number that breaks ties, its next pause, until when, the reference.
        self._waiting: list[tuple[int, int, int, int, Edge]] = []

    def search(self, edge: Edge) -> list[bytes]:
        """The circle that a reference is of; without one it is looked for again.

        Raises:
            SealtrailError: the store cannot be asked; call again.
        """
        path = find_cycle(self._store, edge.tenant, edge.child_id, edge.parent_id)
        if not path and len(self._waiting) < PENDING:
            self._later(edge, FIRST_US, self._now() + WINDOW_US)
        return path

    def again(self) -> tuple[Edge, list[bytes]] | None:
        """Look for one circle that is due, and no more: that may take seconds.

        Raises:
            SealtrailError: the store cannot be asked; it stays.
        """
        now = self._now()
        if not self._waiting or self._waiting[0][0] > now:
            return None
        _, _, pause, until, edge = self._waiting[0]
        path = find_cycle(
            self._store, edge.tenant, edge.child_id, edge.parent_id, seconds=AGAIN_SECONDS
        )
        heapq.heappop(self._waiting)
        if path:
            return edge, path
        if now < until:
            self._later(edge, min(2 * pause, LAST_US), until)
        return None

    def _later(self, edge: Edge, pause: int, until: int) -> None:
        due = self._now() + pause
        heapq.heappush(self._waiting, (due, next(self._count), pause, until, edge))


def find_cycle(  # noqa: PLR0913 - bounds have defaults
    store: LinkStore,
    tenant: str,
    child: bytes,
    parent: bytes,
    *,
    nodes: int = NODES,
    seconds: float = SECONDS,
) -> list[bytes]:
    """The shortest path child -> parent -> ... -> child, empty when none is found within bounds.

    Args:
        store: answers whose parents are whose.
        tenant: references of this tenant alone are followed.
        child: event id, 16 bytes.
        parent: one of its parents.
        nodes: at most so many events are looked at.
        seconds: at most so long.
    """
    if child == parent:
        return [child, child]
    came_from: dict[bytes, bytes] = {parent: child}
    level = [parent]
    end = time.monotonic() + seconds
    while level and len(came_from) < nodes and time.monotonic() < end:
        following = []
        for below, above in store.parents(tenant, level):
            if above == child:
                return _path(came_from, below, child)
            if above not in came_from:
                came_from[above] = below
                following.append(above)
        level = following
    return []


def _path(came_from: dict[bytes, bytes], last: bytes, child: bytes) -> list[bytes]:
    path = [child, last]
    while path[-1] != child:
        path.append(came_from[path[-1]])
    return path[::-1]
