"""What clocks say, with estimates to the microsecond and silence within tolerance."""

from dataclasses import replace
from typing import Any

import pytest
from tests.contract import world
from tests.processors.pipeline.scenes import SECOND

from sealtrail import avro, ids, merkle
from sealtrail.causal import causal_prefixes
from sealtrail.event import ParentRef
from sealtrail.findings import Code
from sealtrail.validate import VerifiedBatch
from sealtrail_processor.judging.clock import Tolerances, check

LIMITS = Tolerances()
PARENT = ParentRef(ids.event_id(b"\x07" * 32, 5), world.NOW, bytes(32))


def batch(signed_at: int = world.NOW, *events: Any) -> VerifiedBatch:
    made = events or (world.event(),)
    data = [e.encode() for e in made]
    statement = replace(world.Producer().statement(data), signed_at=signed_at)
    leaves = tuple(merkle.leaf_hash(event) for event in data)
    first_id = ids.template(statement.chain_id) + statement.first_seq
    times, parents = causal_prefixes(data, leaves, first_id)
    return VerifiedBatch(
        world.seal(b"", data),
        statement,
        bytes(32),
        leaves,
        times,
        parents,
        avro.codec("ProvenanceEvent"),
    )


@pytest.mark.parametrize(
    ("ahead", "found"),
    [(0, []), (SECOND, []), (SECOND + 1, [Code.AHEAD]), (90 * SECOND, [Code.AHEAD])],
)
def test_ahead_beyond_tolerance(ahead: int, found: list[Code]) -> None:
    findings = check(batch(world.NOW + ahead), world.NOW, None, LIMITS)
    assert [f.code for f in findings] == found
    assert [f.estimate_us for f in findings] == [ahead] * len(found)
    assert all(f.tolerance_us == SECOND for f in findings)
    assert all(f.suspect == world.Producer().chain_id for f in findings)


@pytest.mark.parametrize(("behind", "count"), [(899, 0), (900, 0), (901, 1), (86_400, 1)])
def test_spools_and_pauses_do_not_cry_wolf(behind: int, count: int) -> None:
    findings = check(batch(), world.NOW + behind * SECOND, None, LIMITS)
    assert [f.code for f in findings] == [Code.BEHIND_OR_DELAYED] * count
    assert all(f.estimate_us == behind * SECOND for f in findings)


def test_a_clock_that_goes_back_within_a_chain() -> None:
    findings = check(batch(), world.NOW, world.NOW + 5 * SECOND, LIMITS)
    assert [(f.code, f.estimate_us) for f in findings] == [(Code.REGRESSION, 5 * SECOND)]
    assert check(batch(), world.NOW, world.NOW + SECOND, LIMITS) == []


def test_an_event_before_its_parent() -> None:
    late = PARENT._replace(occurred_at=world.NOW + 7 * SECOND)
    child = world.event(parents=(PARENT, late), occurred_at=world.NOW)
    [finding] = check(batch(world.NOW, child), world.NOW, None, LIMITS)
    assert finding.code is Code.CAUSALITY
    assert (finding.estimate_us, finding.tolerance_us) == (7 * SECOND, SECOND)
    assert finding.suspect is None
    assert ids.text(PARENT.event_id) in finding.detail


def test_live_events_have_transit_and_history_has_none() -> None:
    close = PARENT._replace(occurred_at=world.NOW + 1)
    live = world.event(parents=(close,), occurred_at=world.NOW)
    told = world.event(parents=(close,), occurred_at=world.NOW, backfill=True)
    assert check(batch(world.NOW, live), world.NOW, None, LIMITS) == []
    [finding] = check(batch(world.NOW, told), world.NOW, None, LIMITS)
    assert (finding.estimate_us, finding.tolerance_us) == (1, 0)


def test_a_chain_that_is_behind_is_the_suspect() -> None:
    late = PARENT._replace(occurred_at=world.NOW)
    child = world.event(parents=(late,), occurred_at=world.NOW - 3600 * SECOND)
    findings = check(batch(world.NOW - 3600 * SECOND, child), world.NOW, None, LIMITS)
    assert [f.code for f in findings] == [Code.BEHIND_OR_DELAYED, Code.CAUSALITY]
    assert findings[1].suspect == world.Producer().chain_id


def test_an_event_that_cannot_be_decoded_is_judged_as_live() -> None:
    made = batch(world.NOW, world.event(parents=(PARENT._replace(occurred_at=world.NOW),)))
    torn = replace(made.envelope, events=(made.envelope.events[0][:60],))
    early = replace(made, envelope=torn, occurred_at=(world.NOW - 2 * SECOND,))
    [finding] = check(early, world.NOW, None, LIMITS)
    assert finding.tolerance_us == SECOND
