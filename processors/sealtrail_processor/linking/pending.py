"""References whose parents are not there, by when they are looked for again and by their chains."""

from __future__ import annotations

import heapq
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail_processor.linking import edges

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealtrail.findings import Verdict
    from sealtrail_processor.linking.edges import Edge
    from sealtrail_processor.linking.references import Reference

FIRST_RETRY_S = 0.2
NO_CHAIN = -1


@dataclass(slots=True, eq=False)
class Waiting:
    """A reference whose parent is not there; pause in seconds, verdict as last written.

    ticket: of its entry in the heap; others of it are void.
    """

    edge: Edge
    pause_s: float = FIRST_RETRY_S
    verdict: Verdict | None = None
    ticket: int = -1
    woken: bool = False


class Pending:
    """What waits. How many may is the linker's to say.

    Args:
        clock: seconds, of a clock that is never set.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Waiting]] = []
        # The same by the chain that they wait for.
        self._by_chain: dict[int, dict[Reference, Waiting]] = {}
        self._count = itertools.count()
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def add(self, waiting: Waiting, pause_s: float) -> None:
        """Take one that is due after a pause, unless it waits already.

        What is read again from the store may wait still: twice, it would be reported twice.
        """
        waits = self._by_chain.setdefault(place(waiting.edge)[0], {})
        known = waits.setdefault(waiting.edge.reference, waiting)
        if known is waiting:
            self._held += 1
            self._schedule(waiting, pause_s)
        elif waiting.verdict is not None:
            known.verdict = waiting.verdict

    def wake(self, prefix: int, next_seq: int) -> None:
        """The events of a chain below a sequence number are there: who waits for one is due now."""
        for waiting in self._by_chain.get(prefix, {}).values():
            _, seq = place(waiting.edge)
            # Once: whoever may write to the topic could have the store asked without end.
            if not waiting.woken and seq < next_seq:
                waiting.woken = True
                self._schedule(waiting, 0.0)

    def due(self, limit: int) -> list[Waiting]:
        """Take out those that are due, the first of them first."""
        found: list[Waiting] = []
        while len(found) < limit and self._heap and self._heap[0][0] <= self._clock():
            _, ticket, waiting = heapq.heappop(self._heap)
            if ticket == waiting.ticket:
                self._held -= 1
                chain = place(waiting.edge)[0]
                del self._by_chain[chain][waiting.edge.reference]
                if not self._by_chain[chain]:
                    del self._by_chain[chain]
                found.append(waiting)
        return found

    def _schedule(self, waiting: Waiting, pause_s: float) -> None:
        waiting.ticket = next(self._count)
        heapq.heappush(self._heap, (self._clock() + pause_s, waiting.ticket, waiting))


def place(edge: Edge) -> tuple[int, int]:
    """Chain (its first 82 bits) and sequence number of a parent; NO_CHAIN when it is no id."""
    return edges.place(edge.parent_id) or (NO_CHAIN, 0)
