"""Leaf hashes of events that were committed lately, by position; bounded."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sealtrail import ids
from sealtrail.errors import MalformedError

if TYPE_CHECKING:
    from sealtrail_processor.edges import Edge
    from sealtrail_processor.model import Judged

# (first_seq, leaf hashes, times, tenant): the tuples of the verified batch itself, not copied.
_Batch = tuple[int, tuple[bytes, ...], tuple[int, ...], str]


class Recent:
    """Remembers whole batches until their events exceed a bound.

    Args:
        events: how many events are remembered.
    """

    def __init__(self, events: int) -> None:
        self._bound = events
        self._held = 0
        self._order: deque[tuple[int, _Batch]] = deque()
        self._chains: dict[int, list[_Batch]] = {}

    def add(self, judged: Judged) -> None:
        """Take an accepted batch that is committed."""
        batch = judged.batch
        if batch is None or not batch.leaf_hashes:
            return
        statement = batch.statement
        prefix = ids.chain_prefix(statement.chain_id)
        entry = (statement.first_seq, batch.leaf_hashes, batch.occurred_at, statement.tenant)
        self._chains.setdefault(prefix, []).append(entry)
        self._order.append((prefix, entry))
        self._held += len(batch.leaf_hashes)
        while self._held > self._bound and self._order:
            prefix, oldest = self._order.popleft()
            held = self._chains[prefix]
            held.remove(oldest)
            if not held:
                del self._chains[prefix]
            self._held -= len(oldest[1])

    def holds(self, edge: Edge) -> bool:
        """Whether the parent is here just as the child says, of the same tenant."""
        try:
            prefix, seq = ids.parse(edge.parent_id)
        except MalformedError:
            return False
        # The newest first: parents are mostly young.
        for first_seq, leaves, times, tenant in reversed(self._chains.get(prefix, ())):
            index = seq - first_seq
            if 0 <= index < len(leaves):
                said = (edge.parent_leaf, edge.parent_occurred_at, edge.tenant)
                if (leaves[index], times[index], tenant) == said:
                    return True
        return False
