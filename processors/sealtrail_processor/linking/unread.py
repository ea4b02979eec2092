"""Open links that are read from the store: at a start, and when memory had no room for them."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from sealtrail_processor.linking.link_store import BLOCKS, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail.findings import Verdict
    from sealtrail_processor.judging.model import Log
    from sealtrail_processor.judging.ports import Clock
    from sealtrail_processor.linking.edges import Edge
    from sealtrail_processor.linking.link_store import Block, LinkStore
    from sealtrail_processor.settings import WorkerSettings

log = logging.getLogger(__name__)

# Blocks that are named in one answer: 100 bytes of memory each.
NAMED = 10_000


@dataclass(slots=True)
class _Reading:
    """Partitions that are read together, and how far that has come.

    blocks: those that are still to be read, of the ones that were named so far.
    last: the last that was named.
    ended: whether there are none behind it.
    found: references so far.
    """

    logs: Sequence[Log]
    part: Part
    blocks: deque[Block] = field(default_factory=deque)
    last: Block | None = None
    ended: bool = False
    found: int = 0


class Unread:
    """What of the store is to be read, some blocks of chains at a time.

    Partitions are read together: each question looks through all references of the window, whatever
    partitions it is about. `add` may be called by any thread, all else by the linker's.

    Args:
        store: where references and verdicts are.
        settings: how far back, and how many references at most.
        now: microseconds since 1970.
    """

    def __init__(self, store: LinkStore, settings: WorkerSettings, now: Clock) -> None:
        self._store = store
        self._settings = settings
        self._now = now
        self._added: dict[tuple[str, int], Log] = {}
        self._reading: _Reading | None = None

    def __bool__(self) -> bool:
        """Whether anything is to be read."""
        return bool(self._added or self._reading)

    def add(self, at: Log) -> None:
        """Read a partition, from its beginning if it is being read already."""
        self._added[at.topic, at.partition] = at

    def read(self) -> list[tuple[Edge, Verdict | None]]:
        """The next references without a lasting verdict; with ORPHAN where that was said already.

        Raises:
            SealtrailError: the store; nothing is lost, call again.
        """
        reading = self._reading = self._reading or self._begin()
        if not reading.blocks and not reading.ended:
            named = self._store.open_blocks(reading.part, reading.last, NAMED)
            reading.blocks.extend(named)
            reading.last = named[-1] if named else reading.last
            reading.ended = len(named) < NAMED
        some, limit = list(islice(reading.blocks, BLOCKS)), self._settings.links_pending_max
        found = self._store.unsettled(reading.part, some, limit) if some else []
        for _ in some:
            reading.blocks.popleft()
        if len(found) >= limit:
            # There may be more of them, of whichever partition.
            for at in reading.logs:
                self._added.setdefault((at.topic, at.partition), at)
        reading.found += len(found)
        if reading.ended and not reading.blocks:
            self._end(reading)
        return found

    def _begin(self) -> _Reading:
        """All partitions of one topic."""
        topic = next(iter(self._added))[0]
        names = [name for name in list(self._added) if name[0] == topic]
        logs = [self._added.pop(name) for name in names]
        since = self._now() - round(self._settings.links_rebuild_s * 1e6)
        return _Reading(logs, Part(topic, sorted(n for _, n in names), max(since, 0)))

    def _end(self, reading: _Reading) -> None:
        self._reading = None
        if reading.found:
            many = len(reading.logs)
            log.info("%d links of %d partitions wait for a verdict", reading.found, many)
