"""The simulation itself, in small: `make simulate` is the long run."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

import pytest
from tests.simulation import planted, run, tape
from tests.simulation.acks import Acks, Message
from tests.simulation.crypto import cheap_signatures
from tests.simulation.engine import SimStore, keys_of_tables
from tests.simulation.group import PARTITIONS, SimGroup
from tests.simulation.laws import violations
from tests.simulation.run import folder_for, simulate
from tests.simulation.tape import Tape
from tests.simulation.world import World

from sealtrail_processor.judging.model import RawMessage
from sealtrail_producer import trail as trails

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SEEDS = 12


def raw(offset: int) -> RawMessage:
    """A message that nobody reads."""
    return RawMessage(offset, b"", b"", (), 0, append_time=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = folder_for("test")
    yield made
    shutil.rmtree(made)


def test_some_seeds_end_lawfully():
    found = run.seeds(1, SEEDS)
    assert found.failed == []
    assert found.seeds == SEEDS
    assert found.events > 10 * SEEDS
    assert found.faults > 5 * SEEDS
    assert found.recalling
    assert found.dropping
    # Tests that run after this one in the same process read what is logged.
    assert logging.root.manager.disable == logging.NOTSET


def test_a_seed_is_always_the_same_run(folder: Path):
    with cheap_signatures():
        first = simulate(Tape(5), folder)
        again = simulate(Tape(given=first.numbers), folder)
    assert (again.trace, again.numbers) == (first.trace, first.numbers)


def test_a_seed_knows_nothing_of_those_before_it(folder: Path):
    """Each has disks of its own, and nothing of it is held when it has ended."""
    held = set(trails._trails)
    with cheap_signatures():
        simulate(Tape(4), folder / "before")
        shutil.rmtree(folder / "before")
        simulate(Tape(5), folder / "own")
    assert [path.name for path in folder.iterdir()] == ["own"]
    assert any((folder / "own").iterdir())
    assert trails._trails == held


def test_a_loss_that_no_message_shows_ends_the_worker(folder: Path):
    """Once seeds 8124 and 8173 (ADR 0096); whoever is next finds the loss, and says so."""
    with cheap_signatures():
        world = World(Tape(), folder)
        _send(world)
        assert world.crew.consume(*range(PARTITIONS))
        [worker] = world.crew.workers
        [number] = [n for n, partition in worker.partitions.items() if partition.next_offset]
        _send(world)
        read, end = worker.partitions[number].next_offset, len(world.broker.log(number))
        assert end > read
        world.broker.drop_head(number, end, read)
        for _ in range(30):
            world.clock.advance(1.0)
            world.crew.everybody()
            world.crew.watch()
        assert "the watchdog ends worker 1" in world.trace
        assert {offset for _, offset in world.reported} == {read}
        world.drain()
        assert violations(world) == []
        for service in world.services:
            service.crash()


def _send(world: World) -> None:
    service = world.services[0]
    service.emit()
    service.flush()
    service.send()


@pytest.mark.parametrize("mistake", planted.PLANTED)
def test_a_planted_mistake_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch):
    # How short the trace becomes is shown by the long run.
    monkeypatch.setattr(tape, "MOST_RUNS", 0)
    assert run.find(mistake, 1)["seeds"]


def test_the_group_takes_offsets_of_the_generation_that_is_and_of_nobody_else():
    class Alone:
        name = "alone"

        def __init__(self) -> None:
            self.has: dict[int, list[int]] = {}

        def revoked(self) -> None:
            pass

        def given(self, generation: int, numbers: Sequence[int]) -> None:
            self.has[generation] = list(numbers)

    taken: list[tuple[int, int]] = []
    group = SimGroup(Tape(), lambda _: None, lambda *it: taken.append(it))
    first, other = Alone(), Alone()
    group.join(first)
    group.complete()
    assert first.has == {1: [0, 1]}
    group.commit(first, 1, {0: 5})
    group.join(other)
    group.complete()
    group.commit(first, 1, {0: 6})
    group.leave(first)
    group.commit(first, 2, {0: 7})
    assert taken == [(0, 5)]
    assert group.offsets == {0: 5}


def test_acknowledgements_are_counted_as_faust_does():
    acks = Acks()
    acks.sought({0: 5})
    messages = {o: Message(raw(o), 0, 1) for o in (5, 6, 7, 9)}
    for offset in messages:
        acks.fetched(0, offset)
    acks.ack(messages[6])
    acks.ack(messages[5])
    acks.ack(messages[7])
    acks.ack(messages[9])
    assert acks.committable([0]) == {0: 10}, "8 is not in the log"
    acks.revoked([0])
    acks.sought({0: 10})
    # By offset alone, of whatever generation; nothing of before is counted in.
    acks.ack(Message(raw(10), 0, 1))
    assert acks.committable([0]) == {0: 11}
    acks.ack(Message(raw(11), 0, 1))
    assert acks.committable([1]) == {}, "partition 0 is not ours"


def test_a_tape_shrinks_to_what_matters():
    def fails(numbers: Sequence[int]) -> bool:
        played = Tape(given=numbers)
        return sum(played.below(10) for _ in range(20)) >= 9

    small = tape.shrink([3, 0, 9, 1, 1, 0, 0, 9, 4, 2], fails)
    assert fails(small)
    assert len(small) <= 2


def test_the_store_drops_blocks_by_token_and_rows_by_key():
    store = SimStore(lambda what, done: None, keys_of_tables())
    columns = ("log_id", "topic", "partition", "offset", "arrival", "key", "value", "headers")
    row: tuple[object, ...] = ("log", "topic", 0, 7, 1, b"k", b"v", [])
    store.insert("payloads", columns, [row], "one")
    store.insert("payloads", columns, [(*row[:6], b"other", [])], "one")
    store.insert("payloads", columns, [row], "two")
    assert [r["value"] for r in store.rows("payloads")] == [b"v"]
    assert store.rewritten == []
    store.insert("payloads", columns, [(*row[:6], b"other", [])], "three")
    assert len(store.rewritten) == 1
    with pytest.raises(NotImplementedError):
        store.query("SELECT 1")
