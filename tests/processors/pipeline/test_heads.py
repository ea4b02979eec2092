"""Positions of chains as workers tell each other: packing, forgetting, and what is no message."""

from __future__ import annotations

import pytest
from tests.contract import world
from tests.processors.pipeline.scenes import Scene

from sealtrail import ids
from sealtrail_processor.linking.heads import (
    CLOSED,
    ENTRY,
    FORKED,
    GAP,
    Head,
    Heads,
    of_flush,
    pack,
    tenant_tag,
    unpack,
)
from sealtrail_processor.memory import MemoryHeads, MemoryPublisher

TAG = tenant_tag("default")


def test_a_message_byte_for_byte() -> None:
    head = Head(0x2AAAA_0000_0000_0000_0001, 2**40, bytes(range(8)), GAP | FORKED)
    value = pack(7, 258, [head])
    assert value.hex() == (
        "01" "0007" "0000000000000102"
        "02aaaa0000000000000001" "010000000000" "0001020304050607" "06"
    )  # fmt: skip
    assert unpack(value) == [head]
    assert unpack(pack(0, 0, [])) == []


@pytest.mark.parametrize(
    "value",
    [None, b"", b"\x01", b"\x02" + bytes(10 + ENTRY), b"\x01" + bytes(9 + ENTRY), bytes(100)],
)
def test_what_is_no_message_says_nothing(value: bytes | None) -> None:
    assert unpack(value) == []


def test_a_flush_tells_of_the_chains_that_it_moved() -> None:
    scene = Scene()
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    first, _, third = two.send(3), two.send(3), two.send(3)
    scene.append(one.send(5, close=True), first, third, b"nonsense", two.heartbeat())
    partition = scene.run()
    told = {h.prefix: h for h in of_flush(scene.told[-1], partition.chains)}
    assert told == {
        ids.chain_prefix(one.chain_id): Head(ids.chain_prefix(one.chain_id), 5, TAG, CLOSED),
        ids.chain_prefix(two.chain_id): Head(ids.chain_prefix(two.chain_id), 3, TAG, GAP),
    }


def test_chains_never_go_back_and_the_oldest_are_forgotten() -> None:
    topic = MemoryHeads()
    heads = Heads(topic, MemoryPublisher(), "provenance.heads", 2)
    topic.unread = [pack(0, 1, [Head(1, 5, TAG)]), pack(0, 2, [Head(1, 3, TAG), Head(2, 1, TAG)])]
    assert [(h.prefix, h.next_seq) for h in heads.read()] == [(1, 5), (2, 1)]
    assert heads.passed(1, 4, "default")
    assert not heads.passed(1, 5, "default")
    assert not heads.passed(1, 4, "another tenant")
    topic.unread = [pack(0, 3, [Head(3, 1, TAG)])]
    heads.read()
    assert not heads.passed(1, 4, "default")
    assert heads.passed(2, 0, "default")


def test_a_topic_that_is_absent_or_full_holds_up_nothing() -> None:
    topic, publisher = MemoryHeads(there=False), MemoryPublisher(room=0)
    heads = Heads(topic, publisher, "provenance.heads", 10)
    scene = Scene()
    scene.append(world.Producer().send())
    partition = scene.run()
    heads.committed(scene.told[-1], partition.chains)
    topic.there = True
    heads.committed(scene.told[-1], partition.chains)
    assert publisher.sent == []
