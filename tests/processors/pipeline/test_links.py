"""Parents: what is known of each reference, from memory, from the store, and after the window."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract import world
from tests.processors.pipeline.linker import Bench, batch_of, first_event, stored
from tests.processors.pipeline.scenes import SECOND, Scene

from sealtrail import ids
from sealtrail.errors import UnavailableError
from sealtrail.event import ParentRef
from sealtrail.findings import Code, Verdict
from sealtrail_processor.judging.model import Flush
from sealtrail_processor.linking.edges import Edge, Stored, compare, of_batch
from sealtrail_processor.linking.heads import Head, pack, tenant_tag
from sealtrail_processor.linking.link_store import Block, LinkStore, Part
from sealtrail_processor.linking.references import Reference, References


def test_parents_of_the_same_worker_are_verified_in_memory() -> None:
    bench = Bench()
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    bench.commit(one.send(), batch_of(two, (first_event(one),)))
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}
    assert bench.store.asked == 0


def test_a_child_that_comes_first_waits_for_its_parent() -> None:
    bench = Bench()
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.commit(batch_of(two, (parent,)))
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "PENDING"}
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.later(1)
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}
    assert bench.codes() == []


def test_position_when_the_chain_is_past_it_but_its_row_is_not_seen() -> None:
    bench = Bench(links_recent_events=0)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    bench.commit(one.send(), batch_of(two, (first_event(one),)))
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "POSITION"}


def told(parent: ParentRef, next_seq: int, tenant: str = "default") -> bytes:
    """What another worker says of the parent's chain."""
    prefix, _ = ids.parse(parent.event_id)
    return pack(3, 17, [Head(prefix, next_seq, tenant_tag(tenant))])


def test_a_parent_that_another_worker_commits_is_asked_for_at_once() -> None:
    bench = Bench()
    two = world.Producer(nonce=world.digest("two"))
    parent = first_event(world.Producer())
    bench.commit(batch_of(two, (parent,)))
    bench.turn()
    bench.turn()
    assert bench.store.asked == 1  # the next time is after a pause
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.topic.unread = [told(parent, 0)]
    bench.turn()
    assert bench.store.asked == 1  # not so far yet
    bench.topic.unread = [told(parent, 1)]
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}
    assert len(bench.linker._pending) == 0


@pytest.mark.parametrize(
    ("next_seq", "tenant", "verdict"),
    [(1, "default", "POSITION"), (0, "default", "PENDING"), (1, "other", "PENDING")],
)
def test_position_by_the_word_of_another_worker(next_seq: int, tenant: str, verdict: str) -> None:
    bench = Bench()
    two = world.Producer(nonce=world.digest("two"))
    parent = first_event(world.Producer())
    bench.topic.unread = [told(parent, next_seq, tenant)]
    bench.turn()
    bench.commit(batch_of(two, (parent,)))
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): verdict}


def test_whoever_writes_to_the_topic_cannot_have_the_store_asked_without_end() -> None:
    bench = Bench()
    parent = first_event(world.Producer())
    bench.commit(batch_of(world.Producer(nonce=world.digest("two")), (parent,)))
    bench.turn()
    for number in range(1, 50):
        bench.topic.unread = [told(parent, number)]
        bench.turn()
    assert bench.store.asked == 2


@pytest.mark.parametrize("wrong", ["leaf", "time"])
def test_another_hash_or_time_is_a_mismatch(wrong: str) -> None:
    bench = Bench()
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.store.stored[parent.event_id] = [stored(parent)]
    leaf = world.digest("wrong") if wrong == "leaf" else parent.leaf_hash
    time = parent.occurred_at + (wrong == "time")
    bench.commit(one.send(), batch_of(two, (ParentRef(parent.event_id, time, leaf),)))
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "MISMATCH"}
    assert bench.codes() == [Code.LINK_MISMATCH]


def test_orphan_after_the_window_and_still_found_later() -> None:
    bench = Bench(orphan_window_s=600)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.commit(batch_of(two, (parent,)))
    bench.turn()
    bench.later(500)
    assert bench.codes() == []
    bench.later(101)
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "ORPHAN"}
    assert bench.codes() == [Code.ORPHAN]
    bench.later(600)
    assert bench.codes() == [Code.ORPHAN]
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.later(600)
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}


def test_no_orphan_while_the_log_is_behind() -> None:
    bench = Bench(orphan_window_s=600)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    bench.commit(batch_of(two, (first_event(one),)))
    bench.horizon = world.NOW + SECOND
    bench.later(3_600)
    assert bench.codes() == []
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "PENDING"}
    # All that came within the window is committed, and the parent was not in it.
    bench.horizon += 601 * SECOND
    bench.later(1)
    assert bench.codes() == [Code.ORPHAN]


@pytest.mark.parametrize(
    ("next_seq", "closed", "verdict"),
    [(0, False, "LOST_WITH_PRODUCER"), (0, True, "ORPHAN"), (5, False, "ORPHAN")],
)
def test_lost_with_its_producer(next_seq: int, closed: bool, verdict: str) -> None:
    bench = Bench(orphan_window_s=600)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    chain = (bench.now, next_seq, closed, 60)
    bench.store.chains[ids.chain_prefix(one.chain_id)] = chain
    bench.commit(batch_of(two, (parent,)))
    bench.later(601)
    assert bench.store.verdicts == {(two.chain_id, 0, 0): verdict}


def edge(parent: ParentRef, tenant: str = "default") -> Edge:
    log = Scene().log
    child = (bytes(32), 0, 0, ids.event_id(bytes(32), 0))
    who = (parent.event_id, parent.occurred_at, parent.leaf_hash)
    return Edge(log, 0, world.NOW, tenant, *child, 0, *who)


def test_of_other_tenants_nothing_is_told_but_to_those_who_know() -> None:
    parent = first_event(world.Producer())
    foreign = stored(parent, "other")
    assert compare(edge(parent), [foreign]) is Verdict.EXTERNAL
    guess = ParentRef(parent.event_id, parent.occurred_at, world.digest("a guess"))
    assert compare(edge(guess), [foreign]) is None
    assert compare(edge(parent), []) is None


def test_any_branch_of_a_fork_may_be_meant() -> None:
    parent = first_event(world.Producer())
    twin = Stored("default", world.digest("twin"), parent.occurred_at)
    assert compare(edge(parent), [twin, stored(parent)]) is Verdict.VERIFIED
    assert compare(edge(parent), [twin]) is Verdict.MISMATCH


def test_a_store_that_is_away_loses_nothing() -> None:
    bench = Bench()
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.store.away = True
    bench.commit(batch_of(two, (parent,)))
    with pytest.raises(UnavailableError):
        bench.turn()
    bench.store.away = False
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.later(1)
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}


def test_what_waits_is_bounded_and_read_again_from_the_store() -> None:
    bench = Bench(links_pending_max=100)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.commit(batch_of(two, *((parent,) for _ in range(150))))
    bench.turn()
    assert len(bench.linker._pending) <= 100
    missed = [
        e for e in _all_edges(bench) if (e.child_chain, e.child_seq, 0) not in bench.store.verdicts
    ]
    assert missed
    bench.store.open = missed
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.later(1)
    bench.later(1)
    assert set(bench.store.verdicts.values()) == {"VERIFIED"}
    assert len(bench.store.verdicts) == 150


def _all_edges(bench: Bench) -> list[Edge]:
    return [e for f in bench.scene.told for j in f.judged for e in of_batch(f.log, j)]


def test_a_restarted_linker_takes_up_what_has_no_verdict() -> None:
    bench = Bench()
    parent = first_event(world.Producer())
    bench.store.open = [edge(parent)]
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.linker.rebuild(bench.scene.log)
    bench.turn()
    bench.later(1)
    assert bench.store.verdicts == {(bytes(32), 0, 0): "VERIFIED"}


def test_what_cannot_be_read_again_holds_up_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)

    def away(*_: Any) -> Any:
        raise UnavailableError("takes too long")

    bench.linker.rebuild(bench.scene.log)
    bench.commit(one.send(), batch_of(two, (parent,)))
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "open_blocks", away)
        for count in range(1, 4):
            bench.turn()
            assert len(bench.store.verdicts) == count
            bench.commit(batch_of(two, (parent,)))
            # Not before a pause, which grows.
            assert not bench.linker._reads()
            assert bench.linker._read_pause_s == 0.2 * 2**count
            bench.linker._read_at = 0.0
    assert set(bench.store.verdicts.values()) == {"VERIFIED"}
    other = first_event(one)
    bench.store.open, bench.store.stored = [edge(other)], {other.event_id: [stored(other)]}
    bench.turn()
    bench.later(1)
    assert bench.store.verdicts[bytes(32), 0, 0] == "VERIFIED"


def test_what_a_full_inbox_dropped_is_read_from_its_arrival_on() -> None:
    bench = Bench()
    asked: list[int] = []
    named = bench.store.open_blocks

    def open_blocks(part: Part, *rest: Any) -> list[Block]:
        asked.append(part.since)
        return named(part, *rest)

    bench.store.open_blocks = open_blocks  # type: ignore[assignment] # in its place
    bench.linker._inbox.maxsize = 1
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    bench.commit(one.send())
    bench.commit(batch_of(two, (first_event(one),)))
    dropped = bench.scene.told[-1]
    bench.turn()
    assert asked == [min(judged.arrival for judged in dropped.judged)]
    assert asked[0] > world.NOW - 86_400 * SECOND


def test_what_waits_to_be_linked_holds_no_messages() -> None:
    bench = Bench()
    parent = first_event(world.Producer())
    bench.commit(batch_of(world.Producer(nonce=world.digest("two")), (parent,)))
    waiting = bench.linker._inbox.get_nowait()
    assert isinstance(waiting, Flush)
    [judged] = waiting.judged
    assert judged.message.value is None
    assert judged.batch is not None
    assert not judged.batch.envelope.events
    assert [e.parent_id for e in of_batch(waiting.log, judged)] == [parent.event_id]


def test_a_restarted_linker_waits_for_the_parent_of_an_orphan_and_says_nothing_again() -> None:
    bench = Bench(orphan_window_s=600)
    parent = first_event(world.Producer())
    bench.store.open = [edge(parent)]
    bench.store.verdicts = {(bytes(32), 0, 0): "ORPHAN"}
    bench.now += 700 * SECOND
    bench.linker.rebuild(bench.scene.log)
    bench.turn()
    bench.later(600)
    assert bench.codes() == []
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.later(600)
    assert bench.store.verdicts == {(bytes(32), 0, 0): "VERIFIED"}
    assert bench.codes() == []


def test_memory_forgets_old_batches_and_asks_the_store_then() -> None:
    bench = Bench(links_recent_events=3)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.store.stored[parent.event_id] = [stored(parent)]
    bench.commit(one.send(3), one.send(3), batch_of(two, (parent,)))
    bench.turn()
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}
    assert bench.store.asked == 1


class Inserts:
    """A store that takes down the tokens of inserts."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def insert_packed(self, sql: str, columns: Any, rows: bytes, token: str) -> None:
        del sql, columns, rows
        self.tokens.append(token)


def test_verdicts_have_a_token_of_their_content() -> None:
    inserts = Inserts()
    store = LinkStore(inserts)  # type: ignore[arg-type] # what is asked of it here
    reference = (world.digest("child"), 2**39, 2**32 - 1, 63, bytes(16))
    others = [
        (world.digest("other"), *reference[1:]),
        (reference[0], 2**39 + 1, *reference[2:]),
        (*reference[:2], 0, *reference[3:]),
        (*reference[:3], 62, reference[4]),
        (*reference[:4], b"\1" * 16),
    ]
    one = [References.of(Reference(*reference))]
    said: list[tuple[dict[Verdict, list[References]], int]] = [
        ({Verdict.PENDING: one}, 2**62),
        ({Verdict.PENDING: one, Verdict.VERIFIED: []}, 2**62),
        ({Verdict.PENDING: one}, 2**62 + 1),
        ({Verdict.PENDING: one * 2}, 2**62),
        ({Verdict.PENDING: one, Verdict.VERIFIED: one}, 2**62),
    ]
    said += [({Verdict.PENDING: [References.of(Reference(*other))]}, 2**62) for other in others]
    said += [({verdict: one}, 2**62) for verdict in Verdict if verdict is not Verdict.PENDING]
    for each in said:
        store.write(*each)
    first, again, *different = inserts.tokens
    assert first == again
    assert len({first, *different}) == len(said) - 1


def test_of_one_reference_one_verdict_is_written_what_memory_proves_before_all() -> None:
    bench = Bench()
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    message = one.send(3)
    parent = first_event(one)
    child = batch_of(two, (parent,))
    # Read again from the store, where its parent is unknown, in the round in which it comes.
    bench.store.open = [
        edge(parent)._replace(child_chain=two.chain_id, child_branch=0, log=bench.scene.log)
    ]
    bench.linker.rebuild(bench.scene.log)
    bench.commit(message, child)
    bench.linker.turn(0.001)
    assert [{v: len(r) for v, r in said.items() if r} for said in bench.store.written] == [
        {Verdict.VERIFIED: 1}
    ]
    assert bench.store.verdicts == {(two.chain_id, 0, 0): "VERIFIED"}
