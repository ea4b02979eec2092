"""Findings that only time makes: each once, and never for what is merely under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.contract import world
from tests.processors.pipeline.scenes import SECOND, Scene

if TYPE_CHECKING:
    from sealtrail_processor.pipeline.partition import Partition

from sealtrail.findings import Code
from sealtrail_processor.pipeline.timers import Timers
from sealtrail_processor.settings import WorkerSettings


class Watch:
    """Timers over one partition."""

    def __init__(self, **settings: Any) -> None:
        self.scene = Scene()
        self.timers = Timers(WorkerSettings(**settings))
        self.partition: Partition | None = None
        self.seen = 0

    def commit(self, *values: bytes, at: int | None = None) -> None:
        self.scene.append(*values, at=at)
        self.partition = self.scene.run(self.partition)
        for flush in self.scene.told[self.seen :]:
            self.timers.committed(flush)
        self.seen = len(self.scene.told)

    def codes(self, seconds: float, *, lagging: bool = False) -> list[tuple[Code, int]]:
        """What is found so many seconds after NOW; it is written down."""
        assert self.partition is not None
        now = world.NOW + round(seconds * SECOND)
        found = self.timers.check([self.partition], now, lagging=lagging)
        self.timers.written(found)
        return [(f.code, f.batch_seq) for entries in found.values() for _, f, _ in entries]


def test_a_gap_is_reported_once_it_settled_and_only_once() -> None:
    watch = Watch()
    producer = world.Producer()
    first, missing, third = producer.send(), producer.send(), producer.send()
    watch.commit(first, third, at=world.NOW)
    assert watch.codes(29) == []
    assert watch.codes(31) == [(Code.GAP, 1)]
    assert watch.codes(40) == []
    watch.commit(missing)
    assert watch.codes(50) == []


def test_gaps_that_were_told_and_filled_are_not_remembered_for_ever() -> None:
    watch = Watch()
    producer = world.Producer()
    sent = [producer.send() for _ in range(200)]
    watch.commit(*sent[::2], at=world.NOW)
    assert len(watch.codes(31)) == 99
    watch.commit(*sent[1:195:2], at=world.NOW)
    assert watch.codes(40) == []
    assert watch.timers._told == {
        (1, producer.chain_id): {(Code.GAP, 195), (Code.GAP, 197)},
    }


def test_a_gap_that_fills_in_time_is_never_reported() -> None:
    watch = Watch()
    producer = world.Producer()
    first, missing, third = producer.send(), producer.send(), producer.send()
    watch.commit(first, third, at=world.NOW)
    watch.commit(missing, at=world.NOW + 20 * SECOND)
    assert watch.codes(31) == []


def test_a_worker_that_lags_waits_for_what_may_be_in_the_log() -> None:
    watch = Watch()
    producer = world.Producer()
    first, _, third = producer.send(), producer.send(), producer.send()
    watch.commit(first, third, at=world.NOW)
    assert watch.codes(3600, lagging=True) == []
    watch.commit(b"noise", at=world.NOW + 31 * SECOND)
    assert watch.codes(3600, lagging=True) == [(Code.GAP, 1)]


def test_a_restart_does_not_report_anew() -> None:
    watch = Watch()
    producer = world.Producer()
    first, _, third = producer.send(), producer.send(), producer.send()
    watch.commit(first, third, at=world.NOW)
    assert watch.partition is not None
    found = watch.timers.check([watch.partition], world.NOW + 60 * SECOND, lagging=False)
    watch.timers = Timers(WorkerSettings())
    watch.timers.written(found)
    assert watch.codes(90) == []


def test_a_heartbeat_that_names_a_batch_we_lack_shows_the_missing_tail() -> None:
    watch = Watch()
    producer = world.Producer()
    first, _ = producer.send(), producer.send()
    watch.commit(first, producer.heartbeat(), at=world.NOW)
    assert watch.codes(29) == []
    assert watch.codes(31) == [(Code.GAP, 1)]


def test_a_silent_chain_is_stalled_after_two_heartbeats() -> None:
    watch = Watch()
    producer = world.Producer()
    watch.commit(producer.send(), at=world.NOW)
    assert watch.codes(0) == []
    assert watch.codes(119) == []
    assert watch.codes(121) == [(Code.STALLED_CHAIN, 1)]
    assert watch.codes(300) == []


def test_heartbeats_keep_a_chain_alive_and_closing_ends_it_well() -> None:
    watch = Watch()
    producer, done = world.Producer(), world.Producer(nonce=world.digest("done"))
    watch.commit(producer.send(), done.send(close=True), at=world.NOW)
    watch.commit(producer.heartbeat(), at=world.NOW + 100 * SECOND)
    assert watch.codes(100) == []
    assert watch.codes(219) == []
    assert watch.codes(221) == [(Code.STALLED_CHAIN, 1)]


def test_a_chain_that_is_closed_beyond_a_gap_is_not_stalled() -> None:
    watch = Watch()
    producer = world.Producer()
    first, _, last = producer.send(), producer.send(), producer.send(close=True)
    watch.commit(first, last, at=world.NOW)
    assert watch.codes(0) == []
    assert watch.codes(500) == [(Code.GAP, 1)]


def test_nobody_is_called_silent_by_a_worker_that_was_not_listening() -> None:
    watch = Watch()
    watch.commit(world.Producer().send(), at=world.NOW)
    assert watch.codes(86_400, lagging=True) == []
    assert watch.codes(86_400) == []
    assert watch.codes(86_400 + 121) == [(Code.STALLED_CHAIN, 1)]
    assert watch.partition is not None
