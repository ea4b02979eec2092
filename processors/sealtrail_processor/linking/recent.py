"""Leaf hashes of events that were committed lately, by position; bounded."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sealtrail import ids

if TYPE_CHECKING:
    from sealtrail.validate import VerifiedBatch
    from sealtrail_processor.judging.model import Judged

# (first_seq, leaf hashes, times, tenant): the tuples of the verified batch itself, not copied.
_Batch = tuple[int, tuple[bytes, ...], tuple[int, ...], str]
Position = tuple[int, int]
# So many bytes of an event id are its chain's, the others its sequence number.
_CHAIN = 11


class Recent:
    """Remembers whole batches until their events exceed a bound.

    Args:
        events: how many events are remembered.
    """

    def __init__(self, events: int) -> None:
        self._bound = events
        self._held = 0
        self._order: deque[tuple[bytes, _Batch]] = deque()
        self._chains: dict[bytes, list[_Batch]] = {}

    def add(self, judged: Judged) -> None:
        """Take an accepted batch that is committed."""
        batch = judged.batch
        if batch is None or not batch.leaf_hashes:
            return
        statement = batch.statement
        chain = ids.event_id(statement.chain_id, 0)[:_CHAIN]
        entry = (statement.first_seq, batch.leaf_hashes, batch.occurred_at, statement.tenant)
        self._chains.setdefault(chain, []).append(entry)
        self._order.append((chain, entry))
        self._held += len(batch.leaf_hashes)
        while self._held > self._bound and self._order:
            chain, oldest = self._order.popleft()
            held = self._chains[chain]
            held.remove(oldest)
            if not held:
                del self._chains[chain]
            self._held -= len(oldest[1])

    def split(self, batch: VerifiedBatch) -> tuple[list[Position], list[Position]]:
        """References of a batch as (index of the event, ordinal of the parent).

        First those whose parent is here just as the child says, of the same tenant; then the rest.
        This runs for every reference.
        """
        held, rest = [], []
        statement = batch.statement
        tenant, chains = statement.tenant, self._chains
        own_leaves, own_times = batch.leaf_hashes, batch.occurred_at
        # What the id of the event before the one with a given index is, less the index.
        before = (ids.template(statement.chain_id) | statement.first_seq) - 1
        for index, parents in enumerate(batch.parents):
            for ordinal, (name, time, leaf) in enumerate(parents):
                # Most name the event before them, of the same batch: committed with it.
                if (
                    index
                    and leaf == own_leaves[index - 1]
                    and time == own_times[index - 1]
                    and name == (before + index).to_bytes(16, "big")
                ):
                    held.append((index, ordinal))
                    continue
                seq = int.from_bytes(name[_CHAIN:], "big")
                # The newest first: parents are mostly young.
                for first_seq, leaves, times, owner in reversed(chains.get(name[:_CHAIN], ())):
                    at = seq - first_seq
                    if (
                        0 <= at < len(leaves)
                        and leaves[at] == leaf
                        and times[at] == time
                        and owner == tenant
                    ):
                        held.append((index, ordinal))
                        break
                else:
                    rest.append((index, ordinal))
        return held, rest
