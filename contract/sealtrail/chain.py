"""Step 10: a batch's place in its chain. Pure: state in, placement out.

Rules (docs/wire-format.md, "Place in the chain"):
- the mark is the end of what is contiguous; what lies beyond a gap is accepted and waits in
  `beyond`;
- a batch number seen before is a duplicate when its statement hash is equal, else a FORK, kept as
  the next branch;
- a batch that contradicts what stands before or after it (previous, first_seq) is a FORK too, never
  a replacement;
- branch 0 is the chain as first seen; state is a function of the accepted batches in the order of
  the log, so that a
  worker that rebuilds it from stored rows comes to the same answers.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sealtrail import ids
from sealtrail.findings import Code
from sealtrail.statement import ZERO, BatchStatement, Continues, Identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# How many of a chain's batch hashes are kept in memory; older ones are asked of the store.
RECENT = 4096


@dataclass(frozen=True, slots=True)
class Link:
    """What the chain needs of one batch, in memory and as a stored row.

    first_seq, count: positions of its events; signed_at, arrival: microseconds since 1970.
    """

    chain_id: bytes
    batch_seq: int
    branch: int
    first_seq: int
    count: int
    statement_hash: bytes
    previous: bytes
    signed_at: int
    arrival: int
    closes: bool
    identity: Identity
    heartbeat_s: int = 0
    continues: Continues | None = None

    @classmethod
    def of(
        cls, statement: BatchStatement, statement_hash: bytes, arrival: int, branch: int = 0
    ) -> Link:
        """The link of a verified statement."""
        genesis = statement.genesis
        return cls(
            statement.chain_id,
            statement.batch_seq,
            branch,
            statement.first_seq,
            statement.count,
            statement_hash,
            statement.previous,
            statement.signed_at,
            arrival,
            statement.closes,
            statement.identity,
            0 if genesis is None else genesis.heartbeat_s,
            None if genesis is None else genesis.continues,
        )

    @property
    def next_seq(self) -> int:
        """First sequence number after this batch."""
        return self.first_seq + self.count


@dataclass(frozen=True, slots=True)
class ChainFinding:
    """Something about a batch's place: from_seq (inclusive) to to_seq (exclusive) where events are missing."""

    code: Code
    detail: str
    from_batch: int = 0
    to_batch: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a batch belongs. branch is None for a duplicate or a refused batch (code says which)."""

    branch: int | None
    findings: tuple[ChainFinding, ...] = ()
    duplicate: bool = False
    refused: ChainFinding | None = None


@dataclass(slots=True)
class ChainState:
    """One chain as far as it was accepted."""

    chain_id: bytes
    identity: Identity
    heartbeat_s: int = 0
    next_batch: int = 0
    next_seq: int = 0
    head: bytes = ZERO
    last_signed_at: int = 0
    last_arrival: int = 0
    closed: bool = False
    continued: bool = False
    beyond: dict[int, Link] = field(default_factory=dict)
    recent: OrderedDict[int, list[tuple[bytes, int]]] = field(default_factory=OrderedDict)

    def gaps(self) -> list[tuple[int, int]]:
        """Missing batch numbers as (first, last) pairs, inclusive."""
        found, at = [], self.next_batch
        for number in sorted(self.beyond):
            if number > at:
                found.append((at, number - 1))
            at = number + 1
        return found

    def needs_lookup(self, batch_seq: int) -> bool:
        """Whether the hash of a batch below the mark is no longer in memory and must be asked of the store."""
        return batch_seq < self.next_batch and batch_seq not in self.recent

    def _remember(self, link: Link) -> None:
        self.recent.setdefault(link.batch_seq, []).append((link.statement_hash, link.branch))
        while len(self.recent) > RECENT:
            self.recent.popitem(last=False)


class Chains:
    """All chains of one partition."""

    def __init__(self) -> None:
        self.by_id: dict[bytes, ChainState] = {}
        self._prefixes: dict[int, bytes] = {}

    def by_prefix(self, prefix: int) -> ChainState | None:
        """The chain whose id begins with 82 bits (of an event id)."""
        chain_id = self._prefixes.get(prefix)
        return None if chain_id is None else self.by_id[chain_id]

    def place(
        self,
        link: Link,
        stored: Mapping[tuple[bytes, int], Sequence[tuple[bytes, int]]] | None = None,
    ) -> Placement:
        """Find a batch's place; changes nothing (call `apply` once the batch is accepted).

        Args:
            link: the batch; its branch is ignored.
            stored: (chain_id, batch_seq) -> [(statement_hash, branch)] of batches that memory no
                longer holds.
        """
        state = self.by_id.get(link.chain_id)
        if state is None:
            return self._place_new(link)
        known = list(state.recent.get(link.batch_seq, ()))
        waiting = state.beyond.get(link.batch_seq)
        if waiting is not None and not known:
            # Beyond a gap a batch may wait longer than `recent` remembers it.
            known.append((waiting.statement_hash, waiting.branch))
        if stored is not None:
            known += stored.get((link.chain_id, link.batch_seq), ())
        if any(digest == link.statement_hash for digest, _ in known):
            return Placement(None, duplicate=True)
        complaint = (
            "another batch already stands there"
            if known or link.batch_seq < state.next_batch
            else ""
        )
        complaint = complaint or _contradiction(state, link)
        if complaint:
            branch = max((b for _, b in known), default=0) + 1
            finding = ChainFinding(
                Code.FORK, f"batch {link.batch_seq}: {complaint}", link.batch_seq, link.batch_seq
            )
            return Placement(branch, (finding,))
        return Placement(0, tuple(_continuity(state, link)))

    def _place_new(self, link: Link) -> Placement:
        prefix = ids.chain_prefix(link.chain_id)
        other = self._prefixes.get(prefix)
        if other is not None:
            detail = f"event ids of chain {link.chain_id.hex()} belong to chain {other.hex()}"
            return Placement(None, refused=ChainFinding(Code.ID_COLLISION, detail))
        findings: list[ChainFinding] = []
        if link.batch_seq > 0:
            findings.append(_gap(0, link.batch_seq - 1))
        elif link.continues is not None:
            findings += self._continuation(link.continues)
        return Placement(0, tuple(findings))

    def _continuation(self, continues: Continues) -> list[ChainFinding]:
        """Two continuations of one head, or one from behind the head, are a FORK."""
        earlier = self.by_id.get(continues.chain_id)
        if earlier is None:
            return []
        if earlier.continued:
            detail = f"chain {continues.chain_id.hex()} is continued twice"
        elif continues.batch_seq + 1 < earlier.next_batch:
            detail = f"continues chain {continues.chain_id.hex()} from behind its head"
        elif continues.batch_seq + 1 == earlier.next_batch and continues.head != earlier.head:
            detail = f"continues another head of chain {continues.chain_id.hex()}"
        else:
            return []
        return [ChainFinding(Code.FORK, detail, continues.batch_seq, continues.batch_seq)]

    def restore(self, chain_id: bytes, state: ChainState | None) -> None:
        """Put back a chain's earlier state, None to forget it: undoes `apply`."""
        if state is not None:
            self.by_id[chain_id] = state
        elif self.by_id.pop(chain_id, None) is not None:
            del self._prefixes[ids.chain_prefix(chain_id)]

    def apply(self, link: Link) -> None:
        """Take an accepted batch (its branch as placed) into the state; also used to rebuild from stored rows."""
        state = self.by_id.get(link.chain_id)
        if state is None:
            state = self.by_id[link.chain_id] = ChainState(link.chain_id, link.identity)
            self._prefixes[ids.chain_prefix(link.chain_id)] = link.chain_id
            if link.continues is not None and link.continues.chain_id in self.by_id:
                self.by_id[link.continues.chain_id].continued = True
        state._remember(link)  # noqa: SLF001 - the two classes are one mechanism
        state.last_arrival = max(state.last_arrival, link.arrival)
        if link.branch:
            return
        if link.batch_seq == 0:
            state.heartbeat_s = link.heartbeat_s
        state.beyond[link.batch_seq] = link
        while (following := state.beyond.pop(state.next_batch, None)) is not None:
            state.next_batch += 1
            state.next_seq = following.next_seq
            state.head = following.statement_hash
            state.last_signed_at = following.signed_at
            state.closed = following.closes


def _contradiction(state: ChainState, link: Link) -> str:
    """What of a new batch number does not fit the batches around it; empty when all fits."""
    before = state.beyond.get(link.batch_seq - 1)
    after = state.beyond.get(link.batch_seq + 1)
    at_mark = link.batch_seq == state.next_batch
    if state.closed and not state.beyond and link.batch_seq >= state.next_batch:
        return "the chain is closed"
    if before is not None and before.closes:
        return "the chain is closed"
    previous, first = (state.head, state.next_seq) if at_mark else (None, None)
    if before is not None:
        previous, first = before.statement_hash, before.next_seq
    if previous is not None and link.previous != previous:
        return "previous is not the hash of the batch before it"
    if first is not None and link.first_seq != first:
        return f"first_seq {link.first_seq} does not follow {first}"
    if after is not None and (
        link.closes or after.previous != link.statement_hash or after.first_seq != link.next_seq
    ):
        return "it does not fit the accepted batch after it"
    return _room(state, link)


def _room(state: ChainState, link: Link) -> str:
    """Between neighbours each missing batch holds at least one event."""
    below = max((n for n in state.beyond if n < link.batch_seq), default=None)
    low_batch, low_seq = state.next_batch, state.next_seq
    if below is not None:
        low_batch, low_seq = below + 1, state.beyond[below].next_seq
        if state.beyond[below].closes:
            return "the chain is closed"
    if link.first_seq < low_seq + (link.batch_seq - low_batch):
        return f"first_seq {link.first_seq} overlaps earlier batches"
    above = min((n for n in state.beyond if n > link.batch_seq), default=None)
    if above is not None:
        if link.closes:
            return "it closes a chain that goes on"
        if state.beyond[above].first_seq < link.next_seq + (above - link.batch_seq - 1):
            return "it overlaps later batches"
    return ""


def _continuity(state: ChainState, link: Link) -> list[ChainFinding]:
    fills = any(number > link.batch_seq for number in state.beyond)
    if fills:
        return [
            ChainFinding(
                Code.GAP_FILLED,
                f"batch {link.batch_seq} came after its successors",
                link.batch_seq,
                link.batch_seq,
            )
        ]
    below = max(state.beyond, default=state.next_batch - 1)
    if link.batch_seq > below + 1:
        return [_gap(below + 1, link.batch_seq - 1)]
    return []


def _gap(first: int, last: int) -> ChainFinding:
    return ChainFinding(Code.GAP, f"batches {first} to {last} are missing", first, last)
