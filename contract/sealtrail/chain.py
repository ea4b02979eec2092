"""Step 10: a batch's place in its chain. Pure: state in, placement out.

Rules (docs/wire-format.md, "Place in the chain"):
- the mark is the end of what is contiguous; what lies beyond a gap is accepted and waits in runs;
- a batch number seen before is a duplicate when its statement hash is equal, else a FORK;
- a batch that contradicts what stands before or after it (previous, first_seq) is a FORK too,
  never a replacement;
- a fork opens a branch of its own unless it goes on where a fork's branch ends, so that
  (chain, sequence number, branch) names one event;
- only a genesis proves who owns a chain id: afterwards other identities are refused, before it
  they fork;
- a chain has so many gaps and branches and no more (`Bounds`): a batch that would make another one
  is refused, whatever fills a gap or goes on from what is there is not;
- state is a function of the accepted batches in the order of the log, so that a worker that
  rebuilds it from stored rows comes to the same answers;
- for the same reason a chain may be left out of memory (`Chains.evict`) and be rebuilt before
  anything is placed that names it (`Chains.recall`): the answers are those of one that stayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail import ids
from sealtrail.chain_state import BOUNDS, RECENT, Bounds, ChainState, Link, Run
from sealtrail.findings import Code

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sealtrail.statement import Continues


@dataclass(frozen=True, slots=True)
class ChainFinding:
    """Something about a batch's place.

    from_batch, to_batch: the batch numbers that it is about, both inclusive.
    """

    code: Code
    detail: str
    from_batch: int = 0
    to_batch: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a batch belongs.

    branch is None for a duplicate and for a refused batch; an accepted one may have findings.
    """

    branch: int | None
    findings: tuple[ChainFinding, ...] = ()
    duplicate: bool = False
    refused: ChainFinding | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """All that is kept of one chain: its state, and (who continues it, what that one names)."""

    state: ChainState | None
    continued: tuple[bytes, Continues] | None


class Chains:
    """Chains of one partition.

    partial: whether some were left out, so that one that is not here may be in the store.
    """

    def __init__(self) -> None:
        self.by_id: dict[bytes, ChainState] = {}
        self.partial = False
        self._prefixes: dict[int, bytes] = {}
        # Continued chain -> (chain that continues it, what it names): either may come first.
        self._continued: dict[bytes, tuple[bytes, Continues]] = {}

    def by_prefix(self, prefix: int) -> ChainState | None:
        """The chain whose id begins with 82 bits (of an event id)."""
        chain_id = self._prefixes.get(prefix)
        return None if chain_id is None else self.by_id[chain_id]

    def place(
        self,
        link: Link,
        stored: Mapping[tuple[bytes, int], Sequence[tuple[bytes, int]]] | None = None,
        bounds: Bounds = BOUNDS,
    ) -> Placement:
        """Find a batch's place; changes nothing (call `apply` once the batch is accepted).

        Args:
            link: the batch; its branch is ignored.
            stored: (chain_id, batch_seq) -> [(statement_hash, branch)] of batches that memory no
                longer holds.
            bounds: what a chain may have.
        """
        state = self.by_id.get(link.chain_id)
        if state is None:
            return self._place_new(link)
        known = list(state.recent.get(link.batch_seq, ()))
        if stored is not None:
            known += stored.get((link.chain_id, link.batch_seq), ())
        if any(digest == link.statement_hash for digest, _ in known):
            return Placement(None, duplicate=True)
        if link.identity != state.identity and state.proven:
            detail = f"chain {link.chain_id.hex()} belongs to another producer or instance"
            return Placement(None, refused=ChainFinding(Code.ID_COLLISION, detail))
        complaint = _contradiction(state, link)
        if complaint:
            return _fork(state, link, complaint, [digest for digest, _ in known], bounds)
        if len(state.beyond) >= bounds.gaps and state.alone(link.batch_seq):
            detail = f"batch {link.batch_seq} leaves another gap: {bounds.gaps} are open"
            return Placement(None, refused=ChainFinding(Code.GAP, detail))
        return Placement(state.main, (*_continuity(state, link), *self._continuations(link)))

    def _place_new(self, link: Link) -> Placement:
        other = self._prefixes.get(ids.chain_prefix(link.chain_id))
        if other is not None:
            detail = f"event ids of chain {link.chain_id.hex()} belong to chain {other.hex()}"
            return Placement(None, refused=ChainFinding(Code.ID_COLLISION, detail))
        fresh = ChainState(link.chain_id, link.identity)
        return Placement(0, (*_continuity(fresh, link), *self._continuations(link)))

    def _continuations(self, link: Link) -> list[ChainFinding]:
        """Two continuations of one chain, or one from behind its head, are a FORK.

        Whichever comes last, the continuation or what it leaves behind, bears the finding.
        """
        details = []
        if link.batch_seq == 0 and link.continues is not None:
            details.append(self._continues(link.chain_id, link.continues))
        if link.chain_id in self._continued:
            by, point = self._continued[link.chain_id]
            other_head = link.batch_seq == point.batch_seq and link.statement_hash != point.head
            if link.batch_seq == point.batch_seq + 1 or other_head:
                details.append(f"chain {by.hex()} continues this one from an earlier or other head")
        return [ChainFinding(Code.FORK, d, link.batch_seq, link.batch_seq) for d in details if d]

    def _continues(self, chain_id: bytes, point: Continues) -> str:
        name = point.chain_id.hex()
        by, _ = self._continued.get(point.chain_id, (chain_id, point))
        if by != chain_id:
            return f"chain {name} is continued twice"
        earlier = self.by_id.get(point.chain_id)
        if earlier is None:
            return ""
        if earlier.holds(point.batch_seq + 1):
            return f"continues chain {name} from behind its head"
        if point.batch_seq + 1 == earlier.next_batch and point.head != earlier.head:
            return f"continues another head of chain {name}"
        return ""

    def apply(self, link: Link) -> None:
        """Take an accepted batch (its branch as placed) into the state.

        Also used to rebuild from stored rows, in the order of the log.
        """
        state = self.by_id.get(link.chain_id)
        if state is None:
            state = ChainState(link.chain_id, link.identity, main=link.branch, branches=link.branch)
            self._hold(state)
            _, state.continued = self._continued.get(link.chain_id, (b"", None))
        state.remember(link)
        state.last_arrival = max(state.last_arrival, link.arrival)
        state.branches = max(state.branches, link.branch)
        if link.batch_seq == 0:
            self._open(state, link)
        if link.branch == state.main:
            state.extend(link)
        else:
            state.tips[link.branch] = link

    def known(self, chain_id: bytes) -> Known:
        """What is kept of a chain now, for `restore`."""
        state = self.by_id.get(chain_id)
        return Known(None if state is None else state.copy(), self._continued.get(chain_id))

    def restore(self, chain_id: bytes, known: Known) -> None:
        """Put back what was kept of a chain: undoes `apply`.

        Undo the chain that a genesis continues along with its own.
        """
        if known.continued is None:
            self._continued.pop(chain_id, None)
        else:
            self._continued[chain_id] = known.continued
        if known.state is not None:
            self._hold(known.state)
        elif self.by_id.pop(chain_id, None) is not None:
            del self._prefixes[ids.chain_prefix(chain_id)]

    def evict(self, chain_ids: Iterable[bytes]) -> None:
        """Leave chains out: whoever places a batch that names one of them recalls it before."""
        for chain_id in chain_ids:
            del self.by_id[chain_id]
            del self._prefixes[ids.chain_prefix(chain_id)]
        # What is kept of a chain that is not here is found with it.
        self._continued = {k: v for k, v in self._continued.items() if k in self.by_id}
        self.partial = True

    def recall(
        self, links: Iterable[Link], continued: Mapping[bytes, tuple[bytes, Continues]]
    ) -> int:
        """Take chains in that were left out; how many there are.

        Args:
            links: all accepted batches of these chains, in the order of the log.
            continued: of each chain that was asked for, also of one without batches, the first in
                the order of the log that continues it, and what it names.
        """
        found = Chains()
        for link in links:
            found.apply(link)
            found.by_id[link.chain_id].trim()
        fresh = [state for chain_id, state in found.by_id.items() if chain_id not in self.by_id]
        for state in fresh:
            # Who continues it may be left out, or be another than the first of those found here.
            _, state.continued = continued.get(state.chain_id, (b"", None))
            self._hold(state)
        for chain_id, by in continued.items():
            self._continued.setdefault(chain_id, by)
        return len(fresh)

    def _hold(self, state: ChainState) -> None:
        self.by_id[state.chain_id] = state
        self._prefixes[ids.chain_prefix(state.chain_id)] = state.chain_id

    def _open(self, state: ChainState, link: Link) -> None:
        """What a genesis adds: it proves the chain's owner and names what it continues."""
        if not state.proven and link.identity != state.identity:
            # Another producer had claimed the chain id: what it sent stays on its branch.
            state.identity, state.main, state.beyond = link.identity, link.branch, []
        state.proven = True
        if link.branch == state.main:
            state.heartbeat_s = link.heartbeat_s
        if link.continues is not None:
            point = link.continues
            self._continued.setdefault(point.chain_id, (link.chain_id, point))
            if point.chain_id in self.by_id:
                self.by_id[point.chain_id].continued = self._continued[point.chain_id][1]


def _fork(
    state: ChainState, link: Link, complaint: str, there: Sequence[bytes], bounds: Bounds
) -> Placement:
    for branch, tip in state.tips.items():
        if _follows(tip, link):
            return Placement(branch)
    # The one genesis always has its place: forks must not keep a chain from its owner.
    proves = link.batch_seq == 0 and not state.proven
    if state.branches >= bounds.branches and not proves:
        detail = f"batch {link.batch_seq}: {complaint}; {state.branches} branches are there already"
        return Placement(None, refused=ChainFinding(Code.FORK, detail))
    # Whoever is told wants to know between which statements; both are kept, byte for byte.
    others = sorted(set(there)) or [state.end_before(link.batch_seq).head]
    heads = " and ".join(head.hex() for head in (*others, link.statement_hash))
    detail = f"batch {link.batch_seq}: {complaint}; heads {heads}"
    finding = ChainFinding(Code.FORK, detail, link.batch_seq, link.batch_seq)
    return Placement(state.branches + 1, (finding,))


def _follows(tip: Link, link: Link) -> bool:
    at = (tip.batch_seq + 1, tip.next_seq, tip.statement_hash, tip.identity)
    return not tip.closes and at == (
        link.batch_seq,
        link.first_seq,
        link.previous,
        link.identity,
    )


def _contradiction(state: ChainState, link: Link) -> str:
    """What of a new batch does not fit those around it; empty when all fits."""
    if link.identity != state.identity:
        return "another producer or instance claims the chain, and its genesis was not seen yet"
    if state.holds(link.batch_seq):
        return "another batch already stands there"
    return _contradiction_below(state.end_before(link.batch_seq), link) or _contradiction_above(
        state.above(link.batch_seq), link
    )


def _contradiction_below(below: Run, link: Link) -> str:
    missing = link.batch_seq - below.last_batch - 1
    if below.closes:
        return "the chain is closed"
    if missing == 0 and link.previous != below.head:
        return "previous is not the hash of the batch before it"
    if missing == 0 and link.first_seq != below.next_seq:
        return f"first_seq {link.first_seq} does not follow {below.next_seq}"
    # Each batch that is still missing holds at least one event, else it would close the chain.
    if link.first_seq < below.next_seq + missing:
        return f"first_seq {link.first_seq} overlaps earlier batches"
    return ""


def _contradiction_above(above: Run | None, link: Link) -> str:
    if above is None:
        return ""
    missing = above.first_batch - link.batch_seq - 1
    if link.closes:
        return "it closes a chain that goes on"
    if missing == 0 and (above.previous, above.first_seq) != (link.statement_hash, link.next_seq):
        return "it does not fit the accepted batch after it"
    return "it overlaps later batches" if above.first_seq < link.next_seq + missing else ""


def _continuity(state: ChainState, link: Link) -> list[ChainFinding]:
    below = state.end_before(link.batch_seq)
    if state.above(link.batch_seq) is not None:
        detail = f"batch {link.batch_seq} came after its successors"
        return [ChainFinding(Code.GAP_FILLED, detail, link.batch_seq, link.batch_seq)]
    if link.batch_seq == below.last_batch + 1:
        return []
    first, last = below.last_batch + 1, link.batch_seq - 1
    events = f"events {below.next_seq} to {link.first_seq - 1}"
    return [ChainFinding(Code.GAP, f"batches {first} to {last} ({events}) missing", first, last)]


__all__ = [
    "BOUNDS",
    "RECENT",
    "Bounds",
    "ChainFinding",
    "ChainState",
    "Chains",
    "Known",
    "Link",
    "Placement",
    "Run",
]
