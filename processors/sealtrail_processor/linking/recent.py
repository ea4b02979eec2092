"""Leaf hashes of events that were committed lately, by position; bounded."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sealtrail import ids
from sealtrail_processor.linking.references import References

if TYPE_CHECKING:
    from sealtrail_processor.judging.model import Judged

Position = tuple[int, int]
# So many bytes of an event id are its chain's, the others its sequence number.
_CHAIN = 11


class _Batch(NamedTuple):
    """The tuples are those of the verified batch itself, not copied."""

    first_seq: int
    leaves: tuple[bytes, ...]
    times: tuple[int, ...]
    tenant: str


@dataclass(slots=True)
class _Branch:
    """Batches of one branch of a chain, by their first sequence numbers: they do not overlap."""

    firsts: list[int] = field(default_factory=list)
    batches: list[_Batch] = field(default_factory=list)


class Recent:
    """Remembers whole batches until their events exceed a bound.

    Args:
        events: how many events are remembered.
    """

    def __init__(self, events: int) -> None:
        self._bound = events
        self._held = 0
        self._order: deque[tuple[tuple[bytes, int], _Batch]] = deque()
        # By the chain as an event id says it, then by (chain, branch).
        self._chains: dict[bytes, dict[tuple[bytes, int], _Branch]] = {}

    def add(self, judged: Judged) -> None:
        """Take an accepted batch that is committed."""
        batch = judged.batch
        if batch is None or not batch.leaf_hashes:
            return
        statement = batch.statement
        key = (statement.chain_id, judged.branch)
        entry = _Batch(statement.first_seq, batch.leaf_hashes, batch.occurred_at, statement.tenant)
        branch = self._chains.setdefault(_prefix(key[0]), {}).setdefault(key, _Branch())
        at = bisect_right(branch.firsts, entry.first_seq)
        branch.firsts.insert(at, entry.first_seq)
        branch.batches.insert(at, entry)
        self._order.append((key, entry))
        self._held += len(batch.leaf_hashes)
        while self._held > self._bound and self._order:
            self._forget(*self._order.popleft())

    def _forget(self, key: tuple[bytes, int], oldest: _Batch) -> None:
        branches = self._chains[_prefix(key[0])]
        branch = branches[key]
        at = branch.batches.index(oldest)
        del branch.firsts[at], branch.batches[at]
        if not branch.batches:
            del branches[key]
        if not branches:
            del self._chains[_prefix(key[0])]
        self._held -= len(oldest.leaves)

    def split(self, judged: Judged) -> tuple[list[References], list[Position]]:
        """References of an accepted batch that are proved here, and where the others stand.

        Proved: the parent is here just as the child says, of the same tenant. The others as (index
        of the event, ordinal of the parent).
        """
        batch = judged.batch
        if batch is None:
            return [], []
        statement, told = batch.statement, batch.parents
        events, ordinals, names = [], [], []
        rest: list[Position] = []
        for index, parents in told.others.items():
            for ordinal, (name, at, leaf) in enumerate(parents):
                if self.holds(name, at, leaf, statement.tenant):
                    events.append(index)
                    ordinals.append(ordinal)
                    names.append(name)
                else:
                    rest.append((index, ordinal))
        where = (statement.chain_id, judged.branch, statement.first_seq)
        # Those that follow were committed with the event before them.
        held = [
            References(*where, told.following),
            References(*where, tuple(events), bytes(ordinals), b"".join(names)),
        ]
        return [references for references in held if references.events], rest

    def holds(self, name: bytes, at: int, leaf: bytes, tenant: str) -> bool:
        """Whether an event is here with this id, time, leaf hash and tenant."""
        seq = int.from_bytes(name[_CHAIN:], "big")
        for branch in self._chains.get(name[:_CHAIN], {}).values():
            # Not one after the other: a chain may have a hundred thousand batches, and a reference
            # to what never comes is looked for again and again.
            number = bisect_right(branch.firsts, seq) - 1
            if number < 0:
                continue
            first_seq, leaves, times, owner = branch.batches[number]
            index = seq - first_seq
            if (
                index < len(leaves)
                and leaves[index] == leaf
                and times[index] == at
                and owner == tenant
            ):
                return True
        return False


def _prefix(chain_id: bytes) -> bytes:
    return ids.event_id(chain_id, 0)[:_CHAIN]
