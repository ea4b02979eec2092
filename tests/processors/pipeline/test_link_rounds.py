"""The linker's own thread: when its rounds begin, and that one which fails is not its last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.contract import world
from tests.processors.pipeline.linker import Bench, batch_of, first_event

from sealtrail.errors import UnavailableError
from sealtrail_processor.linking import links

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 30.0


@pytest.fixture
def bench() -> Iterator[Bench]:
    found = Bench()
    yield found
    found.linker.stop()
    found.linker._thread.join(PATIENCE_S)


def wait_for(bench: Bench, verdicts: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while len(bench.store.verdicts) < verdicts:
        assert time.monotonic() < end, bench.store.verdicts
        time.sleep(0.01)


def test_what_comes_soon_after_a_round_is_written_together(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for a slow machine to commit twice meanwhile.
    monkeypatch.setattr(links, "ROUND_S", 3.0)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    parent = first_event(one)
    bench.commit(one.send(), batch_of(two, (parent,)))
    bench.linker.start()
    wait_for(bench, 1)
    # Written, but the round has to end.
    time.sleep(0.2)
    bench.commit(batch_of(two, (parent,)))
    bench.commit(batch_of(two, (parent,)))
    wait_for(bench, 3)
    assert [sum(map(len, said.values())) for said in bench.store.written] == [1, 2]


def test_a_round_that_fails_is_followed_by_another(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [0]
    turn = bench.linker.turn

    def failing(wait_s: float) -> None:
        turns[0] += 1
        if turns[0] == 1:
            raise UnavailableError("away")
        turn(wait_s)

    monkeypatch.setattr(bench.linker, "turn", failing)
    one, two = world.Producer(), world.Producer(nonce=world.digest("two"))
    bench.commit(one.send(), batch_of(two, (first_event(one),)))
    bench.linker.start()
    wait_for(bench, 1)
    assert turns[0] >= 2
