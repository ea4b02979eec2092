"""Step 12: what the clocks say. Pure: times in, findings out; all times in microseconds.

- AHEAD: signed after it arrived. The arrival is the broker's or the worker's clock, never the
  producer's.
- BEHIND_OR_DELAYED: signed long before it arrived; a slow clock and a spool look alike, so the
  tolerance is wide.
- REGRESSION: signed before the previous batch of its own chain.
- CAUSALITY: an event before a parent that it names. One finding an event, for the parent that is
  furthest off; events of a backfill have a tolerance of their own, since history has no transit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail import ids
from sealtrail.errors import MalformedError
from sealtrail.findings import Code
from sealtrail_processor.judging.model import Finding

if TYPE_CHECKING:
    from sealtrail.avro import Codec
    from sealtrail.event import ParentRef
    from sealtrail.validate import VerifiedBatch


@dataclass(frozen=True, slots=True)
class Tolerances:
    """What is not worth a finding, microseconds."""

    clock_us: int = 1_000_000
    backfill_us: int = 0
    behind_us: int = 900_000_000


def check(
    batch: VerifiedBatch, arrival: int, previous_signed_at: int | None, limits: Tolerances
) -> list[Finding]:
    """Findings about one accepted batch.

    Args:
        batch: after steps 1 to 10.
        arrival: when it arrived.
        previous_signed_at: when the batch before it in its chain was signed, where that is known.
        limits: tolerances in force.
    """
    statement = batch.statement
    where = (statement.chain_id, statement.batch_seq)
    findings = []
    ahead = statement.signed_at - arrival
    behind = -ahead > limits.behind_us
    if ahead > limits.clock_us:
        detail = f"signed {_seconds(ahead)} after it arrived"
        findings.append(Finding(Code.AHEAD, detail, *where, None, where[0], ahead, limits.clock_us))
    elif behind:
        detail = f"signed {_seconds(-ahead)} before it arrived"
        findings.append(
            Finding(
                Code.BEHIND_OR_DELAYED, detail, *where, None, where[0], -ahead, limits.behind_us
            )
        )
    if previous_signed_at is not None:
        back = previous_signed_at - statement.signed_at
        if back > limits.clock_us:
            detail = f"signed {_seconds(back)} before the batch before it"
            findings.append(
                Finding(Code.REGRESSION, detail, *where, None, where[0], back, limits.clock_us)
            )
    findings += _causality(batch, limits, where[0] if behind else None)
    return findings


def _causality(batch: VerifiedBatch, limits: Tolerances, suspect: bytes | None) -> list[Finding]:
    findings = []
    for index in batch.parents.early():
        found = _before_parent(batch, index, limits, suspect)
        if found is not None:
            findings.append(found)
    return findings


def _before_parent(
    batch: VerifiedBatch, index: int, limits: Tolerances, suspect: bytes | None
) -> Finding | None:
    parent: ParentRef = max(batch.parents[index], key=lambda p: p.occurred_at)
    early = parent.occurred_at - batch.occurred_at[index]
    # The causal prefix does not say whether an event is history; only events that stand before a
    # parent are decoded for it, so that the many pay nothing.
    history = is_backfill(batch.schema, batch.envelope.events[index])
    tolerance = limits.backfill_us if history else limits.clock_us
    if early <= tolerance:
        return None
    statement = batch.statement
    event_id = ids.event_id(statement.chain_id, statement.first_seq + index)
    child = f"event {ids.text(event_id)}"
    detail = f"{child} is {_seconds(early)} before its parent {_name(parent.event_id)}"
    return Finding(
        Code.CAUSALITY,
        detail,
        statement.chain_id,
        statement.batch_seq,
        event_id,
        None if history else suspect,
        early,
        tolerance,
    )


def is_backfill(schema: Codec, event: bytes) -> bool:
    """Whether an event says that it is history told afterwards; False when it cannot be decoded."""
    try:
        value = schema.decode_any(event)
    except MalformedError:
        # The engine refuses it at the boundary check; here it is judged like any live event.
        return False
    return value.get("backfill") is True


def _name(event_id: bytes) -> str:
    # A parent's id is what the child claims: it need not be one of ours.
    return ids.text(event_id) if len(event_id) == 16 else event_id.hex()


def _seconds(microseconds: int) -> str:
    return f"{microseconds / 1e6:.3f} s"
