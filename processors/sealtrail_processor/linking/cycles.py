"""Forged references that lead back to where they began: found, and the search ends in any case."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealtrail_processor.linking.link_store import LinkStore

NODES, SECONDS = 20_000, 5.0


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
