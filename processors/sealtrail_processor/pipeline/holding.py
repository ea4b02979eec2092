"""How many chains of a partition are held, and which are left to the store. Pure but for counters.

Chains never end: a batch of last year is a duplicate for ever. Those that nothing has been heard of
for longest are left to the store, and read again when a message names them (`Partition`).

- What time may still find something about (a gap that settles, a chain that falls silent) stays: an
  evicted chain is looked at by no timer. It goes only where such chains alone are twice as many as
  shall be held, and that is counted apart.
- Some more than `most` are held before any is evicted, so that chains are not sorted at each look.
- A gap and a branch cost about what a chain does, and are counted as one: who opens gaps and forks
  has chains evicted, and no more memory.
- Of chains that are held, hashes of batches are left to the store where there are too many of them,
  again of those first that were silent longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sealtrail.chain import Chains, ChainState
    from sealtrail_processor.judging.ports import Stored

# Batches, and chains, that are read of the store in one go.
BATCHES, CHAINS = 20_000, 1_000
# Of a chain's last batches the hashes stay: these are what is sent twice.
KEPT = 16


@dataclass(slots=True)
class Holding:
    """Chains of a partition in memory.

    most: above it, and an eighth of it, chains are evicted; the others are counters: how many were,
    how many of them while time might still have found something about them, how many came back.
    hashes: of batches, above which they are left to the store.
    """

    most: int
    hashes: int = 200_000
    evicted: int = 0
    watched: int = 0
    recalled: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """What is in memory of partitions: chains, hashes of batches, open gaps, forks."""

    chains: int
    hashes: int
    gaps: int
    branches: int

    @classmethod
    def of(cls, partitions: Iterable[Chains]) -> Held:
        """Of some partitions' chains together."""
        states = [state for chains in partitions for state in chains.by_id.values()]
        return cls(
            len(states),
            sum(state.hashes for state in states),
            sum(len(state.beyond) for state in states),
            sum(len(state.tips) for state in states),
        )


def surplus(chains: Chains, holding: Holding, pending: Callable[[ChainState], bool]) -> list[bytes]:
    """The chains to evict, counted; none while there is room.

    Args:
        chains: those that are held.
        holding: how many shall be.
        pending: whether time may still find something about a chain that was not told.
    """
    most, held = holding.most, weight(chains)
    if held <= most + most // 8:
        return []
    states = sorted(chains.by_id.values(), key=lambda state: state.last_arrival)
    waiting = {state.chain_id for state in states if pending(state)}
    resting = [s for s in states if s.chain_id not in waiting]
    found = _lightening(resting, held - most)
    held -= sum(state.weight for state in found)
    # Twice as many is what memory must have room for, whatever they wait for.
    over = _lightening([s for s in states if s.chain_id in waiting], held - 2 * most)
    holding.evicted += len(found) + len(over)
    holding.watched += len(over)
    return [state.chain_id for state in (*found, *over)]


def _lightening(states: Iterable[ChainState], over: int) -> list[ChainState]:
    """The first of some chains that have so much weight together."""
    found = []
    for state in states:
        if over <= 0:
            break
        found.append(state)
        over -= state.weight
    return found


def weight(chains: Chains) -> int:
    """How many chains, gaps and branches are held."""
    return sum(state.weight for state in chains.by_id.values())


def shed(chains: Chains, holding: Holding) -> None:
    """Leave hashes of batches to the store; nothing while there is room."""
    held = sum(state.hashes for state in chains.by_id.values())
    if held <= holding.hashes:
        return
    for state in sorted(chains.by_id.values(), key=lambda state: state.last_arrival):
        held -= state.shed(KEPT)
        if held <= holding.hashes - holding.hashes // 8:
            break


def reading(stored: Sequence[Stored]) -> Iterator[list[bytes]]:
    """Chains in groups that are small enough to be read at a time."""
    group: list[bytes] = []
    batches = 0
    for chain in stored:
        if group and (batches + chain.batches > BATCHES or len(group) == CHAINS):
            yield group
            group, batches = [], 0
        group.append(chain.chain_id)
        batches += chain.batches
    if group:
        yield group
