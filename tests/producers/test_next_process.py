"""What a process left is sent by the next one, which continues its chain where it may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.producers.world import emit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.producers.world import Seen, World


def test_what_close_could_not_send_is_sent_by_the_next_process_and_its_chain_continued(
    world: World, judged: Callable[[], Seen]
):
    world.broker.down = True
    first = world.open()
    emit(first, 3)
    assert not first.close(1)
    world.broker.down = False
    second = world.open()
    emit(second, 2)
    assert second.close(60)
    old, new = judged().batches
    assert new.statement.genesis.continues.head == old.statement_hash


def test_a_crash_sends_the_same_bytes_again_and_continues_the_head(
    world: World, judged: Callable[[], Seen]
):
    first = world.open(batch_events=5)
    emit(first, 12, durable=False)
    first._core.flush_step()
    assert first.flush(10)
    before = world.broker.messages()
    # As if the acknowledgements had been lost with the process.
    (first._core.slot.folder / "acked").unlink()
    world.crash(first)
    second = world.open()
    emit(second, 1)
    assert second.close(60)
    after = world.broker.messages()[len(before) :]
    assert after[: len(before)] == before
    seen = judged()
    assert seen.duplicates == len(before)
    assert not seen.findings
    assert seen.batches[-1].statement.genesis.continues.head == seen.batches[-2].statement_hash


@pytest.mark.parametrize("policy", ["interval", "never"])
def test_a_head_that_was_sent_before_it_was_on_disk_is_not_continued(world: World, policy: str):
    first = world.open(spool_fsync=policy)
    emit(first, 1)
    first._core.flush_step()
    world.crash(first)
    second = world.open(spool_fsync=policy)
    assert second._core.intake.chain.genesis.continues is None


@pytest.mark.parametrize("policy", ["always", "interval", "never"])
def test_a_closed_chain_is_continued_whatever_the_policy(world: World, policy: str):
    first = world.open(spool_fsync=policy)
    chain = first.chain_id
    emit(first, 1)
    first.close()
    second = world.open(spool_fsync=policy)
    assert second._core.intake.chain.genesis.continues.chain_id == chain


@pytest.mark.parametrize("changed", [{"tenant": "t2"}, {"environment": "e2"}, {"topic": "other"}])
def test_a_head_of_another_tenant_environment_or_topic_is_not_continued(
    world: World, changed: dict[str, Any]
):
    first = world.open()
    emit(first, 1)
    first.close()
    second = world.open(**changed)
    assert second._core.intake.chain.genesis.continues is None


def test_another_process_beside_it_gets_another_instance(world: World):
    first, second = world.open(), world.open()
    assert (first.instance, second.instance) == ("host", "host.1")
    assert first.chain_id != second.chain_id


def test_the_spool_of_a_dead_process_is_adopted(world: World, judged: Callable[[], Seen]):
    first, second = world.open(), world.open()
    emit(second, 3)
    second._core.flush_step()
    world.crash(second)
    emit(first, 2)
    assert first.flush(10)
    for _ in range(3):
        first._core.send_step()
    assert first.close()
    seen = judged()
    assert len(seen.events) == 5
    assert {b.statement.instance for b in seen.batches} == {"host", "host.1"}
    third = world.open(), world.open()
    assert third[1]._core.spool.empty
