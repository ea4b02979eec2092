"""A store that fails between two decisions, and what is read again while it waits: all once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract import world
from tests.processors.pipeline.linker import Bench, batch_of, first_event

from sealtrail import ids
from sealtrail.errors import UnavailableError
from sealtrail.findings import Code, Verdict
from sealtrail_processor.linking.edges import Edge, Stored
from sealtrail_processor.linking.pending import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

CHILD, PARENT = world.digest("child"), world.digest("parent")


def waiting(bench: Bench, count: int) -> list[Edge]:
    """References that wait and are due."""
    found = []
    for n in range(count):
        child, parent = ids.event_id(CHILD, n), ids.event_id(PARENT, n)
        where = (bench.scene.log, 0, bench.now, "default")
        found.append(Edge(*where, CHILD, n, 0, child, 0, parent, 1, bytes(32)))
        bench.linker._wait(Waiting(found[-1]), 0.0)
    return found


def failing(real: Callable[..., Any], at: int) -> Callable[..., Any]:
    """The same, but that it fails once."""
    calls = [0]

    def call(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise UnavailableError("away")
        return real(*args)

    return call


def test_orphans_are_reported_once_where_the_store_fails_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(orphan_window_s=600)
    waiting(bench, 10)
    monkeypatch.setattr(bench.store, "silent_since", failing(bench.store.silent_since, 6))
    with pytest.raises(UnavailableError):
        bench.later(700)
    # What was decided before is written.
    assert len(bench.store.verdicts) == 5
    assert len(bench.linker._pending) == 10
    bench.later(1)
    bench.later(1)
    assert bench.codes() == [Code.ORPHAN] * 10
    assert len(bench.linker._pending) == 10


def test_mismatches_are_reported_once_where_the_search_for_a_circle_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    for edge in waiting(bench, 5):
        bench.store.stored[edge.parent_id] = [Stored("default", os.urandom(32), 1)]
    rings = bench.linker._rings
    monkeypatch.setattr(rings, "search", failing(rings.search, 4))
    with pytest.raises(UnavailableError):
        bench.turn()
    bench.later(1)
    bench.later(1)
    assert bench.codes() == [Code.LINK_MISMATCH] * 5
    assert len(bench.linker._pending) == 0


def test_what_memory_proves_is_written_while_the_store_answers_no_questions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    waiting(bench, 1)
    monkeypatch.setattr(bench.store, "events", failing(bench.store.events, 1))
    bench.commit(one.send(), batch_of(two, (first_event(one),)))
    with pytest.raises(UnavailableError):
        bench.linker.turn(0.001)
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}


def test_what_is_read_again_while_it_waits_is_reported_once() -> None:
    bench = Bench()
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.store.stored[parent.event_id] = [Stored("default", os.urandom(32), 1)]
    where = (bench.scene.log, 0, bench.now, "default")
    child_id = ids.event_id(two.chain_id, 0)
    names = (parent.event_id, parent.occurred_at, parent.leaf_hash)
    bench.store.open = [Edge(*where, two.chain_id, 0, 0, child_id, 0, *names)]
    bench.linker.rebuild(bench.scene.log)
    bench.commit(batch_of(two, (parent,)))
    bench.turn()
    bench.later(1)
    assert bench.codes() == [Code.LINK_MISMATCH]
    assert [{v: len(r) for v, r in said.items() if r} for said in bench.store.written] == [
        {Verdict.MISMATCH: 1}
    ]
    assert len(bench.linker._pending) == 0


def test_an_orphan_that_was_said_is_not_said_again_where_its_reference_waits_already() -> None:
    bench = Bench(orphan_window_s=600)
    [edge] = waiting(bench, 1)
    bench.linker._wait(Waiting(edge, verdict=Verdict.ORPHAN), 0.0)
    bench.later(700)
    assert bench.codes() == []
    assert len(bench.linker._pending) == 1
