"""Open links that are read from the store: at a start, and when memory had no room for them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sealtrail_processor.linking.link_store import SPANS, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail.findings import Verdict
    from sealtrail_processor.judging.model import Log
    from sealtrail_processor.judging.ports import Clock
    from sealtrail_processor.linking.edges import Edge
    from sealtrail_processor.linking.link_store import Block, LinkStore, Span
    from sealtrail_processor.settings import WorkerSettings

log = logging.getLogger(__name__)

# Blocks that are named in one answer: 150 bytes of memory each.
NAMED = 10_000
# Settled references between two blocks that cost less than to name one more range; and references
# that one question looks through.
GAP, READ = 20_000, 1_000_000


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
        self._lock = threading.Lock()
        # With the arrival from which on it is to be read.
        self._added: dict[tuple[str, int], tuple[Log, int]] = {}
        self._reading: _Reading | None = None

    def __bool__(self) -> bool:
        """Whether anything is to be read."""
        return bool(self._added or self._reading)

    def add(self, at: Log, since: int = 0) -> None:
        """Read a partition, once more if it is being read already.

        Args:
            at: the partition.
            since: what arrived from then on, microseconds since 1970; the window's at most.
        """
        name = at.topic, at.partition
        with self._lock:
            _, known = self._added.get(name, (at, since))
            self._added[name] = at, min(known, since)

    def read(self) -> list[tuple[Edge, Verdict | None]]:
        """The next references without a lasting verdict; with ORPHAN where that was said already.

        No more than half of what may wait in memory, unless a single block has more.

        Raises:
            SealtrailError: the store; nothing is lost, call again.
        """
        reading = self._reading = self._reading or self._begin()
        if not reading.blocks and not reading.ended:
            named = self._store.open_blocks(reading.part, reading.last, NAMED)
            reading.blocks.extend(named)
            reading.last = named[-1] if named else reading.last
            reading.ended = len(named) < NAMED
        most = self._settings.links_pending_max
        spans, count = spans_of(reading.blocks, most // 2)
        found = self._store.unsettled(reading.part, spans, most) if spans else []
        for _ in range(count):
            reading.blocks.popleft()
        if len(found) >= most:
            # There may be more of them, of whichever partition.
            for at in reading.logs:
                self.add(at, reading.part.since)
        reading.found += len(found)
        if reading.ended and not reading.blocks:
            self._end(reading)
        return found

    def _begin(self) -> _Reading:
        """All partitions of one topic."""
        now = self._now()
        with self._lock:
            topic = next(iter(self._added))[0]
            names = sorted(name for name in self._added if name[0] == topic)
            taken = [self._added.pop(name) for name in names]
        since = max(now - round(self._settings.links_rebuild_s * 1e6), min(s for _, s in taken), 0)
        part = Part(topic, [number for _, number in names], since, now % 2**63)
        return _Reading([at for at, _ in taken], part)

    def _end(self, reading: _Reading) -> None:
        self._reading = None
        if reading.found:
            many = len(reading.logs)
            log.info("%d links of %d partitions wait for a verdict", reading.found, many)


def spans_of(blocks: Sequence[Block], most: int) -> tuple[list[Span], int]:
    """The first blocks as few ranges, for one question; and how many blocks they are.

    Args:
        blocks: in order.
        most: references of these blocks, but for a first one that has more.
    """
    spans: list[Span] = []
    count = references = read = 0
    for block in blocks:
        between = block.before - _end(spans[-1][1]) if spans else GAP
        joined = between < GAP
        references += block.references
        read += block.references + (between if joined else 0)
        if count and (references > most or read > READ):
            break
        if joined:
            spans[-1] = spans[-1][0], block
        elif len(spans) < SPANS:
            spans.append((block, block))
        else:
            break
        count += 1
    return spans, count


def _end(block: Block) -> int:
    return block.before + block.references
