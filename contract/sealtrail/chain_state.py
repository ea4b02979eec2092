"""One chain as far as it was accepted: what step 10 (`sealtrail.chain`) compares a batch with.

- The mark is the end of what is contiguous; what lies beyond a gap waits in runs, so that a chain
  whose beginning was lost costs no more memory than its gaps.
- Hashes of the last batches stay in memory; older ones are asked of the store.
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
    recent: batch_seq -> ((statement_hash, branch), ...); tips: branch -> last batch of a fork.
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
        """Whether the hash of a batch is no longer in memory and must be asked of the store.

        A fork that came later may be in memory where the batch that it contradicts is not.
        """
        known = self.recent.get(batch_seq, ())
        return self.holds(batch_seq) and all(branch != self.main for _, branch in known)

    def shed(self, keep: int) -> int:
        """Leave hashes to the store but for the last ones; how many.

        Of a number that the main branch does not hold yet nobody would ask: that stays.
        """
        old = [number for number in list(self.recent)[:-keep] if self.holds(number)]
        for number in old:
            del self.recent[number]
        return len(old)

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
        )

    def remember(self, link: Link) -> None:
        """Keep a batch's hash for as long as RECENT allows."""
        known = self.recent.get(link.batch_seq, ())
        self.recent[link.batch_seq] = (*known, (link.statement_hash, link.branch))
        while len(self.recent) > RECENT:
            del self.recent[next(iter(self.recent))]

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
