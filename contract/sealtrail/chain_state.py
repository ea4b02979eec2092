"""One chain as far as it was accepted: what step 10 (`sealtrail.chain`) compares a batch with.

- The mark is the end of what is contiguous; what lies beyond a gap waits in runs, so that a chain
  whose beginning was lost costs no more memory than its gaps.
- Hashes of the last batches stay in memory; older ones are asked of the store.
- Whoever holds a key can make as many gaps and forks as they sign batches: `Bounds` says how many
  a chain may have.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sealtrail.statement import ZERO, BatchStatement, Continues, Identity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sealtrail.records import KeyRecord

# How many of a chain's batch hashes are kept in memory; older ones are asked of the store.
RECENT = 4096


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one chain may have: gaps open at a time, and branches beside the first."""

    gaps: int = 4096
    branches: int = 1024


BOUNDS = Bounds()


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


@dataclass(slots=True)
class Run:
    """Accepted batches with no hole between them: what their neighbours are compared with.

    arrival: of its first batch, microseconds since 1970; the gap before it is known since then.
    """

    first_batch: int
    first_seq: int
    previous: bytes
    last_batch: int
    next_seq: int
    head: bytes
    signed_at: int
    closes: bool
    arrival: int

    @classmethod
    def of(cls, link: Link) -> Run:
        """The run of one batch."""
        return cls(
            link.batch_seq,
            link.first_seq,
            link.previous,
            link.batch_seq,
            link.next_seq,
            link.statement_hash,
            link.signed_at,
            link.closes,
            link.arrival,
        )

    def extend(self, after: Run) -> None:
        """Take in the run that follows without a hole."""
        self.last_batch, self.next_seq, self.head = after.last_batch, after.next_seq, after.head
        self.signed_at, self.closes = after.signed_at, after.closes


@dataclass(slots=True)
class ChainState:
    """One chain as far as it was accepted.

    main: the branch that the fields up to beyond speak of (0 but for a chain that another
    producer claimed before its genesis came); proven: whether the genesis was seen;
    branches: the highest branch in use; beyond: runs after the mark, ascending;
    recent: batch_seq -> ((statement_hash, branch), ...); tips: branch -> last batch of a fork;
    hashes: how many `recent` has; far: the highest number of any branch;
    left: whether hashes were left to the store; partial: numbers of which `recent` has some only.
    """

    chain_id: bytes
    identity: Identity
    main: int = 0
    heartbeat_s: int = 0
    next_batch: int = 0
    next_seq: int = 0
    head: bytes = ZERO
    last_signed_at: int = 0
    last_arrival: int = 0
    closed: bool = False
    proven: bool = False
    continued: Continues | None = None
    beyond: list[Run] = field(default_factory=list)
    branches: int = 0
    recent: dict[int, tuple[tuple[bytes, int], ...]] = field(default_factory=dict)
    tips: dict[int, Link] = field(default_factory=dict)
    hashes: int = 0
    far: int = -1
    left: bool = False
    partial: set[int] = field(default_factory=set)

    @property
    def weight(self) -> int:
        """What it costs beside its hashes: a gap and a branch count as much as a chain."""
        return 1 + len(self.beyond) + len(self.tips)

    def gaps(self) -> list[tuple[int, int]]:
        """Missing batch numbers as (first, last) pairs, inclusive."""
        found, at = [], self.next_batch
        for run in self.beyond:
            found.append((at, run.first_batch - 1))
            at = run.last_batch + 1
        return found

    def holds(self, batch_seq: int) -> bool:
        """Whether a batch of this number was accepted on the main branch."""
        below = self.below(batch_seq)
        return batch_seq < self.next_batch or (below is not None and batch_seq <= below.last_batch)

    def needs_lookup(self, batch_seq: int) -> bool:
        """Whether hashes of batches of this number may be in the store alone.

        A fork that came later may be in memory where the batch that it contradicts is not.
        """
        here = batch_seq in self.recent and batch_seq not in self.partial
        return self.left and batch_seq <= self.far and not here

    def alone(self, batch_seq: int) -> bool:
        """Whether a batch of a number that is missing has no neighbour: one more gap is open."""
        after = self.above(batch_seq)
        joins = after is not None and after.first_batch == batch_seq + 1
        return not joins and self.end_before(batch_seq).last_batch + 1 != batch_seq

    def shed(self, keep: int) -> int:
        """Leave hashes to the store but for those of the last numbers; how many."""
        return sum(map(self._leave, list(self.recent)[:-keep]))

    def trim(self) -> None:
        """Leave hashes to the store that are more than RECENT: all of them must be there."""
        while self.hashes > RECENT and len(self.recent) > 1:
            self._leave(next(iter(self.recent)))

    def _leave(self, batch_seq: int) -> int:
        count = len(self.recent.pop(batch_seq))
        self.partial.discard(batch_seq)
        self.hashes -= count
        self.left = True
        return count

    def speaks(self, keys: Iterable[KeyRecord]) -> bool:
        """Whether keys (of a heartbeat) may speak for this chain's producer."""
        who = (self.identity.producer, self.identity.tenant, self.identity.environment)
        return all((key.producer, key.tenant, key.environment) == who for key in keys)

    def below(self, batch_seq: int) -> Run | None:
        """The last run beyond the mark that begins at or before a batch number."""
        at = bisect_right(self.beyond, batch_seq, key=lambda run: run.first_batch)
        return self.beyond[at - 1] if at else None

    def above(self, batch_seq: int) -> Run | None:
        """The first run that begins after a batch number."""
        at = bisect_right(self.beyond, batch_seq, key=lambda run: run.first_batch)
        return self.beyond[at] if at < len(self.beyond) else None

    def end_before(self, batch_seq: int) -> Run:
        """The run that ends last before a batch number; its last_batch is -1 when nothing does."""
        run = self.below(batch_seq)
        if run is not None:
            return run
        last = self.next_batch - 1
        return Run(0, 0, ZERO, last, self.next_seq, self.head, self.last_signed_at, self.closed, 0)

    def signed_at_before(self, batch_seq: int) -> int | None:
        """signed_at of the batch just before on the main branch (microseconds), None without it."""
        run = self.end_before(batch_seq)
        adjacent = run.last_batch >= 0 and run.last_batch == batch_seq - 1
        return run.signed_at if adjacent else None

    def copy(self) -> ChainState:
        """A state of its own, for a way back (`Chains.restore`)."""
        return replace(
            self,
            beyond=[replace(run) for run in self.beyond],
            recent=dict(self.recent),
            tips=dict(self.tips),
            partial=set(self.partial),
        )

    def remember(self, link: Link) -> None:
        """Keep a batch's hash until `trim`: not before its flush is committed."""
        if self.needs_lookup(link.batch_seq):
            self.partial.add(link.batch_seq)
        # What came last stands last.
        known = self.recent.pop(link.batch_seq, ())
        self.recent[link.batch_seq] = (*known, (link.statement_hash, link.branch))
        self.hashes += 1
        self.far = max(self.far, link.batch_seq)

    def extend(self, link: Link) -> None:
        """Take a batch into the main branch and move the mark over what is contiguous now."""
        if self.holds(link.batch_seq):
            return
        run, below, above = Run.of(link), self.below(link.batch_seq), self.above(link.batch_seq)
        if below is not None and below.last_batch + 1 == link.batch_seq:
            below.extend(run)
            run = below
        else:
            at = bisect_right(self.beyond, link.batch_seq, key=lambda r: r.first_batch)
            self.beyond.insert(at, run)
        if above is not None and above.first_batch == link.batch_seq + 1:
            run.extend(above)
            self.beyond.remove(above)
        if self.beyond[0].first_batch == self.next_batch:
            first = self.beyond.pop(0)
            self.next_batch, self.next_seq = first.last_batch + 1, first.next_seq
            self.head, self.closed = first.head, first.closes
            self.last_signed_at = first.signed_at
