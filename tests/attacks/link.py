"""Parents that do not exist, never came, or are not what their child swears to."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

from tests.attacks.registry import attack
from tests.scenarios.chains import SECOND, event

from sealtrail import ids
from sealtrail.causal import causal_prefix
from sealtrail.event import ParentRef
from sealtrail.findings import Code
from sealtrail.merkle import leaf_hash

if TYPE_CHECKING:
    from tests.scenarios.scene import Scene

MANY = 1_000


def _there(chain_id: bytes, seq: int, data: bytes) -> ParentRef:
    """How a child names an event whose batch is not made yet."""
    return ParentRef(ids.event_id(chain_id, seq), causal_prefix(data)[0], leaf_hash(data))


@attack("D3")
def orphan(scene: Scene) -> None:
    """Parents that nobody has: of a chain unknown, and beyond the end of one that closed."""
    never = scene.chain("orders", 0).draft()
    closed = scene.chain("orders", 1)
    scene.accept(closed.make())
    beyond = closed.draft()
    scene.accept(closed.close())
    made = scene.chain("billing", 1).make(
        [event([never.reference()]), event(), event([beyond.reference(2)])]
    )
    sent = scene.accept(made)
    scene.kept["orphans"] = [made.event_id(0), made.event_id(2)]
    for index in (0, 2):
        scene.finding(Code.ORPHAN, made, sent, index, batch=0)


@attack("B8")
def lost_with_its_producer(scene: Scene) -> None:
    """A chain that falls silent is found; what should have come from it is lost with it."""
    silent = scene.chain("shipping", 0, heartbeat_s=1)
    scene.accept(silent.make())
    lost = silent.draft()
    scene.finding(Code.STALLED_CHAIN, lost, None)
    made = scene.chain("billing", 3).make([event([lost.reference()])])
    sent = scene.accept(made)
    scene.finding(Code.LOST_WITH_PRODUCER, made, sent, 0, batch=0)


@attack("A1")
def wrong_leaf_hash(scene: Scene) -> None:
    """A child that swears to another parent than the one that is stored."""
    parent = scene.chain("orders", 2).make()
    scene.accept(parent)
    true = parent.reference(1)
    other_leaf = true._replace(leaf_hash=sha256(true.leaf_hash).digest())
    other_time = true._replace(occurred_at=true.occurred_at - SECOND)
    made = scene.chain("billing", 0).make(
        [event([true]), event([other_leaf]), event([true, other_time])]
    )
    sent = scene.accept(made)
    for index in (1, 2):
        scene.finding(Code.LINK_MISMATCH, made, sent, index, batch=0)
    scene.kept["mismatch"] = made
    scene.true_links += 2


@attack("D1")
def circle(scene: Scene) -> None:
    """Two events that name one another: one of them must lie about a hash."""
    chain, other = scene.chain("orders", 3), scene.chain("billing", 3)
    draft = other.draft([event()])
    first = chain.make([event([draft.reference()._replace(leaf_hash=os.urandom(32))])])
    second = other.make([event([first.reference()])])
    sent = scene.accept(first)
    scene.accept(second)
    scene.true_links += 1
    for code in (Code.LINK_MISMATCH, Code.CYCLE):
        scene.finding(code, first, sent, 0, batch=0)


@attack("D1")
def circle_of_one(scene: Scene) -> None:
    """An event that names itself."""
    chain = scene.chain("orders", 0)
    itself = chain.draft([event()]).reference()._replace(leaf_hash=os.urandom(32))
    made = chain.make([event([itself])])
    sent = scene.accept(made)
    for code in (Code.LINK_MISMATCH, Code.CYCLE):
        scene.finding(code, made, sent, 0, batch=0)


@attack("D1")
def circle_of_many(scene: Scene) -> None:
    """Forty events in twenty chains; the first names the last, whose hash it cannot know."""
    chains = [scene.chain("billing", n % 4) for n in range(20)]
    last = chains[-1].draft(2).reference(1)._replace(leaf_hash=os.urandom(32))
    first = None
    cause = last
    for chain in chains:
        one = event([cause])
        made = chain.make([one, event([_there(chain.chain_id, 0, one)])])
        sent = scene.accept(made)
        first = first or (made, sent)
        cause = made.reference(1)
        scene.true_links += 2
    scene.true_links -= 1
    assert first is not None
    for code in (Code.LINK_MISMATCH, Code.CYCLE):
        scene.finding(code, *first, 0, batch=0)


@attack("D4")
def lie_in_a_wide_and_a_deep_graph(scene: Scene) -> None:
    """A thousand children of one parent, a thousand one below the other; in each one that lies."""
    for deep in (False, True):
        chain = scene.chain("orders", 0)
        liar = scene.rng.randrange(1, MANY)
        cause: ParentRef | None = None
        events: list[bytes] = []
        for number in range(MANY):
            named = cause
            if cause is not None and number == liar:
                named = cause._replace(leaf_hash=os.urandom(32))
            events.append(event([] if named is None else [named]))
            if cause is None or deep:
                cause = _there(chain.chain_id, number, events[-1])
        made = chain.make(events)
        sent = scene.accept(made)
        scene.finding(Code.LINK_MISMATCH, made, sent, liar, batch=0)
        scene.true_links += MANY - 2


@attack("D3")
def parent_that_comes_later(scene: Scene) -> None:
    """Within the window, and in another partition: nothing to find."""
    late = scene.chain("orders", 3)
    parent = late.make()
    child = scene.chain("billing", 2).make([event([parent.reference(2)])])
    scene.accept(child)
    scene.flush()
    scene.emit(2)
    scene.accept(parent)
    scene.true_links += 1
