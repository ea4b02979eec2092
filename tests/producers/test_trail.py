"""From emit() to the brokers, in memory; the contract judges what arrives."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import pytest

from sealtrail import avro, ids
from sealtrail.errors import ConfigurationError, EventError
from sealtrail.event import (
    TOMBSTONE_ACTIVITY,
    Actor,
    ActorKind,
    Code,
    EntityRef,
    ParentRef,
    Protected,
)
from sealtrail.keys import Algorithm
from sealtrail.merkle import leaf_hash
from sealtrail_producer import AUXILIARY, CREATE, TRANSFORM, Trail
from sealtrail_producer.errors import KeyFileError, TrailClosedError
from sealtrail_producer.signing import KeySigner

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.producers.world import Seen, World


def decoded(event: bytes) -> Any:
    return avro.codec("ProvenanceEvent").decode(event)


def test_every_event_arrives_once_in_order_in_one_closed_chain(
    world: World, judged: Callable[[], Seen]
):
    trail = world.open(batch_events=7)
    receipts = [trail.emit("orders.step", event_type=TRANSFORM) for _ in range(100)]
    assert trail.close()
    seen = judged()
    assert not seen.findings
    (chains,) = seen.chains.values()
    (state,) = chains.by_id.values()
    assert state.closed
    assert state.next_seq == 100
    statement = seen.batches[0].statement
    expected = [ids.event_id(statement.chain_id, n) for n in range(100)]
    assert [r.event_id for r in receipts] == expected
    assert [batch.statement.count for batch in seen.batches] == [7] * 14 + [2]
    assert seen.batches[-1].statement.closes


def test_all_fields_arrive(world: World, judged: Callable[[], Seen]):
    trail = world.open()
    parent = trail.emit("orders.create", event_type=CREATE)
    run_id, moment = uuid4(), datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    personal = Protected(b"s" * 16, b"k" * 16, b"secret")
    trail.emit(
        "orders.enrich",
        event_type="TRANSFORM",
        inputs=[EntityRef("s3://b", "in", "1", b"d" * 32, 5)],
        outputs=[EntityRef("s3://b", "out")],
        parents=[parent, parent.reference],
        attributes={"ä": "ö", "a": "b"},
        actor=Actor("p-1", ActorKind.HUMAN, "team"),
        run_id=run_id,
        occurred_at=moment,
        code=Code("https://x", "abc"),
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
        policy="p7",
        backfill=True,
        protected=[personal],
        commitments=[b"c" * 32],
    )
    trail.close()
    first, second = (decoded(e) for e in judged().events)
    assert first["actor"] == {"id": "orders", "kind": "SERVICE", "on_behalf_of": None}
    assert first["occurred_at"] == world.clock.time_us
    assert second["occurred_at"] == 1_577_934_245_678_901
    assert second["parents"] == [
        {
            "event_id": parent.event_id,
            "occurred_at": parent.reference.occurred_at,
            "leaf_hash": parent.reference.leaf_hash,
        }
    ]
    assert second["inputs"][0]["digest"] == b"d" * 32
    assert second["outputs"][0]["version"] is None
    assert second["attributes"] == {"a": "b", "ä": "ö"}
    assert second["actor"]["kind"] == "HUMAN"
    assert second["run_id"] == run_id.bytes
    assert second["code"]["revision"] == "abc"
    assert (second["trace_id"], second["span_id"]) == (b"t" * 16, b"s" * 8)
    assert (second["policy"], second["backfill"]) == ("p7", True)
    assert second["protected"][0]["ciphertext"] == b"secret"
    assert second["commitments"] == [b"c" * 32]
    assert first["salt"] != second["salt"]


def test_reference_is_the_leaf_of_what_is_sent_before_and_after_sealing(
    world: World, judged: Callable[[], Seen]
):
    trail = world.open()
    early = trail.emit("a", event_type=CREATE)
    early_reference = early.reference
    late = trail.emit("b", event_type=CREATE)
    assert trail.flush(10)
    late_reference = late.reference
    trail.close()
    events = judged().events
    assert early_reference.leaf_hash == leaf_hash(events[0])
    assert late_reference.leaf_hash == leaf_hash(events[1])
    assert early.reference is early_reference


def test_a_one_shot_function_needs_one_signature(world: World, judged: Callable[[], Seen]):
    with world.open() as trail:
        trail.emit("a", event_type=CREATE)
    (batch,) = judged().batches
    assert batch.statement.genesis is not None
    assert batch.statement.closes
    assert batch.statement.count == 1


def test_a_trail_that_emits_nothing_sends_nothing_and_needs_no_broker(world: World):
    world.broker.down = world.registry.down = True
    with world.open() as trail:
        assert len(trail.chain_id) == 32
    assert world.broker.connections == 0


def test_two_algorithms_sign_together_sorted_by_fingerprint(
    world: World, judged: Callable[[], Seen]
):
    world.signers = [KeySigner.generate(Algorithm.ML_DSA_44), KeySigner.generate()]
    with world.open() as trail:
        trail.emit("a", event_type=CREATE)
    (batch,) = judged().batches
    assert list(batch.statement.signers) == sorted(s.public_key.fingerprint for s in world.signers)
    assert len(batch.envelope.signatures) == 2


def test_batches_are_split_by_bytes(world: World, judged: Callable[[], Seen]):
    trail = world.open(batch_bytes=10_000)
    for _ in range(40):
        trail.emit("a", event_type=CREATE, attributes={"x": "y" * 1000})
    trail.emit("large", event_type=CREATE, attributes={"x": "y" * 100_000})
    trail.close()
    seen = judged()
    assert len(seen.events) == 41
    sizes = [sum(map(len, b.envelope.events)) for b in seen.batches]
    assert sorted(sizes)[-2] <= 10_000 < max(sizes)


@pytest.mark.parametrize(
    "fields",
    [
        {"attributes": {"x": "y" * 600_000}},
        {"attributes": {"x": "\N{SNOWMAN}" * 180_000}},
        {"attributes": {"x": "\N{GRINNING FACE}" * 131_072}},
        {"inputs": [EntityRef("n", "x", "v" * 600_000)]},
        {"outputs": [EntityRef("n" * 600_000, "x")]},
        {"actor": "a" * 600_000},
        {"actor": Actor("a", on_behalf_of="b" * 600_000)},
        {"policy": "p" * 600_000},
        {"code": Code("r" * 600_000, "1")},
        {"code": Code("r", "1", "i" * 600_000)},
        {"commitments": [b"c" * 32] * 20_000},
    ],
)
def test_what_is_too_large_is_refused_before_it_has_an_id(
    world: World, judged: Callable[[], Seen], fields: dict[str, Any]
):
    trail = world.open()
    with pytest.raises(EventError, match="at most 524288") as refused:
        trail.emit("huge", event_type=CREATE, **fields)
    assert refused.value.hint == "split it into child events"
    trail.emit("after", event_type=CREATE)
    trail.close()
    assert [decoded(e)["activity"] for e in judged().events] == ["after"]


def test_what_cannot_be_encoded_becomes_a_signed_tombstone_not_a_hole(
    world: World, judged: Callable[[], Seen]
):
    trail = world.open()
    trail.emit("before", event_type=CREATE)
    lost = trail.emit("lost", event_type=CREATE, attributes={"x": "\ud800"})
    after = trail.emit("after", event_type=CREATE, parents=[lost])
    assert lost.event_id != after.event_id
    trail.close()
    seen = judged()
    before, stone, after_event = (decoded(e) for e in seen.events)
    assert not seen.findings
    assert stone["activity"] == TOMBSTONE_ACTIVITY
    assert stone["event_type"] == "UNKNOWN"
    assert "surrogate" in stone["attributes"]["reason"]
    assert after_event["parents"][0]["leaf_hash"] == leaf_hash(seen.events[1])
    assert before["activity"] == "before"


@pytest.mark.parametrize(
    "wrong",
    [
        {"event_type": "NONSENSE"},
        {"importance": "MAYBE"},
        {"inputs": 7},
        {"parents": 7},
        {"attributes": 7},
        {"protected": 7},
        {"commitments": 7},
        {"inputs": ["s3://x"]},
        {"inputs": [EntityRef("n", cast("str", 7))]},
        {"outputs": [EntityRef("n", "x", digest=b"short")]},
        {"outputs": [EntityRef("n", "x", size_bytes=-1)]},
        {"outputs": [EntityRef("n", "x", size_bytes=2**63)]},
        {"inputs": [EntityRef("n", str(i)) for i in range(2049)]},
        {"parents": [b"x"]},
        {"parents": ParentRef(b"x" * 16, 0, b"y" * 32)},
        {"parents": [ParentRef(b"x", 0, b"y" * 32)]},
        {"parents": [ParentRef(bytes([i]) * 16, 0, b"y" * 32) for i in range(65)]},
        {"attributes": {"x": 1}},
        {"attributes": {str(i): "" for i in range(65)}},
        {"actor": 7},
        {"actor": Actor("x", cast("ActorKind", "ALIEN"))},
        {"run_id": b"short"},
        {"trace_id": "hex"},
        {"span_id": b"short"},
        {"policy": 7},
        {"code": "main"},
        {"occurred_at": datetime(2020, 1, 1)},  # noqa: DTZ001 - that it has no zone is the point
        {"occurred_at": 1.5},
        {"occurred_at": 2**62},
        {"protected": [b"x"]},
        {"commitments": [b"short"]},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_value_is_refused_at_once_and_takes_no_number(
    world: World, judged: Callable[[], Seen], wrong: dict[str, Any]
):
    trail = world.open()
    with pytest.raises(EventError):
        trail.emit("x", **{"event_type": CREATE, **wrong})
    with pytest.raises(EventError):
        trail.emit(cast("str", 7), event_type=CREATE)
    trail.emit("good", event_type=CREATE)
    trail.close()
    assert len(judged().events) == 1


def test_auxiliary_events_are_sampled_before_they_get_a_number_and_counted(
    world: World, judged: Callable[[], Seen]
):
    trail = world.open(sample_auxiliary=0.25)
    parent = trail.emit("a", event_type=CREATE)
    receipts = [
        trail.emit("b", event_type=TRANSFORM, importance=AUXILIARY, parents=[parent])
        for _ in range(400)
    ]
    out = [r for r in receipts if r.sampled_out]
    assert 200 < len(out) < 390
    assert out[0].event_id == b""
    assert out[0].references == (parent.reference,)
    with pytest.raises(EventError, match="sampled out"):
        _ = out[0].reference
    child = trail.emit("c", event_type=TRANSFORM, parents=[out[0]])
    trail.close()
    seen = judged()
    assert len(seen.events) == 402 - len(out)
    assert seen.batches[-1].statement.sampled_out == len(out)
    assert decoded(seen.events[-1])["parents"][0]["event_id"] == parent.event_id
    assert child.event_id


def test_essential_events_are_never_sampled(world: World, judged: Callable[[], Seen]):
    trail = world.open(sample_auxiliary=0.0)
    for _ in range(50):
        trail.emit("b", event_type=TRANSFORM)
    trail.close()
    assert len(judged().events) == 50


def test_an_old_chain_is_closed_and_continued(world: World, judged: Callable[[], Seen]):
    trail = world.open(chain_s=10)
    first = trail.emit("a", event_type=CREATE)
    chain = trail.chain_id
    world.clock.advance(11)
    second = trail.emit("b", event_type=CREATE, parents=[first])
    assert trail.chain_id != chain
    assert ids.parse(second.event_id)[1] == 0
    trail.close()
    old, new = judged().batches
    assert old.statement.closes
    assert new.statement.genesis.continues.chain_id == chain
    assert new.statement.genesis.continues.head == old.statement_hash


def test_after_the_last_number_a_new_chain_begins(world: World, judged: Callable[[], Seen]):
    trail = world.open()
    trail.emit("a", event_type=CREATE)
    trail.flush(10)
    core = trail._core
    core.intake.next_seq = ids.MAX_SEQ + 1
    trail.emit("b", event_type=CREATE)
    trail.close()
    assert [b.statement.count for b in judged().batches] == [1, 0, 1]


def test_heartbeats_name_the_last_acknowledged_batch(world: World, judged: Callable[[], Seen]):
    trail = world.open(heartbeat_s=5)
    trail.emit("a", event_type=CREATE)
    assert trail.flush(10)
    for _ in range(3):
        world.clock.advance(6)
        trail._core.send_step()
    seen = judged()
    assert len(seen.heartbeats) == 3
    beat = seen.heartbeats[-1].heartbeat
    assert (beat.chain_id, beat.head) == (trail.chain_id, seen.batches[-1].statement_hash)
    assert beat.time == world.clock.time_us
    trail.close()
    world.clock.advance(6)
    assert len(judged().heartbeats) == 3


def test_no_heartbeat_for_what_the_brokers_did_not_take(world: World):
    trail = world.open(heartbeat_s=5)
    trail.emit("a", event_type=CREATE)
    world.broker.down = True
    trail._core.flush_step()
    world.clock.advance(6)
    trail._core.send_step()
    assert world.broker.messages() == []


def test_nothing_is_emitted_after_close(world: World):
    trail = world.open()
    assert trail.close()
    assert trail.close()
    assert trail.flush()
    with pytest.raises(TrailClosedError):
        trail.emit("x", event_type=CREATE)


def test_headers_say_what_the_statement_says(world: World):
    with world.open() as trail:
        trail.emit("a", event_type=CREATE)
    (message,) = world.broker.messages()
    headers = dict(message.headers)
    assert headers["content-type"] == b"application/vnd.sealtrail.batch.v1+avro"
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_id"] == message.key.hex().encode() + b":0"
    assert headers["ce_source"] == b"/sealtrail/local/default/orders/host"
    assert headers["ce_type"] == b"sealtrail.batch.v1"
    assert headers["ce_time"].endswith(b"Z")


def test_threads_emit_together_and_nothing_is_lost_or_doubled(
    world: World, judged: Callable[[], Seen]
):
    trail = world.open(threads=True, batch_events=50, batch_ms=5)
    found: list[bytes] = []

    def work(number: int) -> None:
        mine = []
        for step in range(200):
            receipt = trail.emit(f"t{number}.{step}", event_type=CREATE, durable=step % 50 == 0)
            mine.append(receipt.event_id)
            if step % 7 == 0:
                assert receipt.reference.leaf_hash
        found.extend(mine)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trail.flush(10_000)
    assert trail.close(10_000)
    seen = judged()
    assert not seen.findings
    assert len(set(found)) == len(seen.events) == 1200
    assert len({decoded(e)["activity"] for e in seen.events}) == 1200


def test_a_wrong_override_is_a_configuration_error(world: World) -> None:
    with pytest.raises(ConfigurationError, match="batch_events"):
        Trail.from_env("orders", settings=world.settings(), batch_events=0)


def test_without_a_key_the_hint_says_how_to_make_one(world: World) -> None:
    with pytest.raises(KeyFileError) as caught:
        Trail.from_env("orders", settings=world.settings())
    assert "keys" in caught.value.hint
