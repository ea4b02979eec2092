"""References to parents as values, and what a stored event says about one. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from sealtrail import ids
from sealtrail.errors import MalformedError
from sealtrail.findings import Verdict
from sealtrail_processor.linking.references import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sealtrail_processor.judging.model import Flush, Judged, Log


class Edge(NamedTuple):
    """A reference to a parent, as its child says it; times in microseconds since 1970."""

    log: Log
    offset: int
    arrival: int
    tenant: str
    child_chain: bytes
    child_seq: int
    child_branch: int
    child_id: bytes
    ordinal: int
    parent_id: bytes
    parent_occurred_at: int
    parent_leaf: bytes

    @property
    def reference(self) -> Reference:
        """What a verdict is of."""
        return Reference(
            self.child_chain, self.child_seq, self.child_branch, self.ordinal, self.parent_id
        )


Decision = tuple[Edge, Verdict]


class Stored(NamedTuple):
    """An event of the store that bears a parent's id."""

    tenant: str
    leaf: bytes
    occurred_at: int


def compare(edge: Edge, found: Sequence[Stored]) -> Verdict | None:
    """The verdict that stored events with the parent's id allow, None when there is none yet."""
    own = [event for event in found if event.tenant == edge.tenant]
    said = (edge.parent_leaf, edge.parent_occurred_at)
    if any((event.leaf, event.occurred_at) == said for event in own):
        return Verdict.VERIFIED
    if own:
        return Verdict.MISMATCH
    if any((event.leaf, event.occurred_at) == said for event in found):
        return Verdict.EXTERNAL
    return None


def of_batch(
    at: Log, judged: Any, positions: Iterable[tuple[int, int]] | None = None
) -> list[Edge]:
    """References of an accepted batch, in order; all unless (event's index, ordinal) are given."""
    parents_of = judged.batch.parents
    if positions is None:
        positions = ((i, n) for i, parents in enumerate(parents_of) for n in range(len(parents)))
    statement = judged.batch.statement
    first = parents_of.first_id
    where = (at, judged.message.offset, judged.arrival, statement.tenant, statement.chain_id)
    return [
        Edge(
            *where,
            statement.first_seq + index,
            judged.branch,
            (first + index).to_bytes(16, "big"),
            ordinal,
            (parent := parents_of[index][ordinal]).event_id,
            parent.occurred_at,
            parent.leaf_hash,
        )
        for index, ordinal in positions
    ]


def place(event_id: bytes) -> tuple[int, int] | None:
    """The first 82 bits of an event's chain, and its sequence number; None when it is no id."""
    try:
        return ids.parse(event_id)
    except MalformedError:
        return None


def without_bytes(flush: Flush) -> Flush:
    """A flush as the linker needs it: what waits to be linked holds no messages in memory."""
    return replace(flush, judged=tuple(_slim(judged) for judged in flush.judged))


def _slim(judged: Judged) -> Judged:
    batch = judged.batch
    if batch is not None:
        batch = replace(batch, envelope=replace(batch.envelope, events=()))
    message = replace(judged.message, key=None, value=None, headers=())
    return replace(judged, message=message, batch=batch)


def name(event_id: bytes) -> str:
    """An event id as people read it, whatever a child claims it to be."""
    return ids.text(event_id) if len(event_id) == 16 else event_id.hex()
