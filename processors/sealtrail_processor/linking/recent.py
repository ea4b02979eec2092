"""Leaf hashes of events that were committed lately, by position; bounded."""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import TYPE_CHECKING

from sealtrail import ids
from sealtrail_processor.linking.link_store import REFERENCE

if TYPE_CHECKING:
    from sealtrail.event import ParentRef
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

    def split(self, judged: Judged) -> tuple[list[bytes], list[Position]]:
        """References of an accepted batch that are proved here, and where the others stand.

        Proved: the parent is here just as the child says, of the same tenant. These as `REFERENCE`
        packs them; the rest as (index of the event, ordinal of the parent). This runs for every
        reference.
        """
        batch = judged.batch
        held: list[bytes] = []
        rest: list[Position] = []
        if batch is None:
            return held, rest
        statement, branch, pack = batch.statement, judged.branch, REFERENCE.pack
        chain, tenant, first = statement.chain_id, statement.tenant, statement.first_seq
        # What the id of the event before the one with a given number is, less that number.
        before = ids.template(chain) - 1
        # Most name the event before them, of the same batch: committed with it.
        leaves, times = (None, *batch.leaf_hashes), (None, *batch.occurred_at)
        for seq, parents, own, own_at in zip(
            count(first), batch.parents, leaves, times, strict=False
        ):
            for ordinal, parent in enumerate(parents):
                name, at, leaf = parent
                if (
                    leaf == own and at == own_at and name == (before + seq).to_bytes(16, "big")
                ) or self._holds(parent, tenant):
                    held.append(pack(chain, seq, branch, ordinal, name))
                else:
                    rest.append((seq - first, ordinal))
        return held, rest

    def _holds(self, parent: ParentRef, tenant: str) -> bool:
        name, at, leaf = parent
        seq = int.from_bytes(name[_CHAIN:], "big")
        # The newest first: parents are mostly young.
        for first_seq, leaves, times, owner in reversed(self._chains.get(name[:_CHAIN], ())):
            index = seq - first_seq
            if (
                0 <= index < len(leaves)
                and leaves[index] == leaf
                and times[index] == at
                and owner == tenant
            ):
                return True
        return False
