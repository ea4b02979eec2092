"""The crash-loop breaker: who died of what, and what becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract import world
from tests.processors.pipeline.scenes import Scene, raw

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail.findings import Disposition
from sealtrail_processor.judging.model import Flush, Judged, Log
from sealtrail_processor.judging.suspicion import ALONE, FEW, Death, Phase, Suspicion
from sealtrail_processor.pipeline.marks import (
    PAGE,
    Mark,
    Marks,
    WaitingStore,
    at_once,
    read_mark,
)

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = Log("cluster-1", world.TOPIC, 1)

DYING = """
import os, signal, sys
from pathlib import Path
from sealtrail_processor.pipeline.marks import Marks
from sealtrail_processor.judging.model import Log
marks = Marks(Path(sys.argv[1]), "w")
with marks.own.working(Log("cluster-1", "t", 3), 5, 9) as mark:
    mark.at(7, 7)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def death(first: int, last: int, number: int, phase: str = "WORK") -> Death:
    return Death(LOG, first, last, phase, f"w-{number}")


def test_a_dead_workers_mark_is_found_once_and_a_living_ones_never(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", DYING, str(tmp_path)], check=False)
    assert died.returncode == -signal.SIGKILL
    living = Marks(tmp_path, "living")
    other = Marks(tmp_path, "other")
    found: list[Death] = []
    with living.own.working(LOG, 1, 2):
        assert other.collect(found.append) == 1
    assert [(d.log, d.first, d.last, d.phase) for d in found] == [
        (Log("cluster-1", "t", 3), 7, 7, "WORK")
    ]
    assert other.collect(found.append) == 0
    living.close()
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_a_death_that_cannot_be_recorded_is_found_again(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DYING, str(tmp_path)], check=False)
    marks = Marks(tmp_path, "w")

    def away(_: Death) -> None:
        raise UnavailableError("the store is away")

    with pytest.raises(UnavailableError):
        marks.collect(away)
    assert marks.collect(lambda _: None) == 1
    marks.close()


def test_what_is_no_mark_is_removed_unread(tmp_path: Path) -> None:
    (tmp_path / "short.mark").write_bytes(b"x")
    (tmp_path / "strange.mark").write_bytes(bytes([255]) * PAGE)
    marks = Marks(tmp_path, "w")
    assert marks.collect(lambda _: None) == 0
    marks.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said() -> None:
    with pytest.raises(ConfigurationError):
        Marks(Path("/proc/self/marks"), "w")


@pytest.mark.parametrize(
    ("raised", "phase"),
    [(None, None), (UnavailableError("away"), None), (ZeroDivisionError(), "FAULT")],
)
def test_only_faults_of_ours_stay_on_the_mark(raised: Exception | None, phase: str | None) -> None:
    page = bytearray(PAGE)
    mark = Mark(page)
    try:
        with mark.working(LOG, 4, 6):
            if raised is not None:
                raise raised
    except (UnavailableError, ZeroDivisionError):
        pass
    mark.absolve()
    assert [d.phase for d in read_mark(bytes(page), "m")] == ([phase] if phase else [])


def test_leaving_for_another_reason_blames_no_message() -> None:
    page = bytearray(PAGE)
    with Mark(page).working(LOG, 4, 6) as mark:
        assert read_mark(bytes(page), "m") == [Death(LOG, 4, 6, "WORK", "m/8/1")]
        mark.absolve()
        assert read_mark(bytes(page), "m") == []


def flush(partition: int, *offsets: int) -> Flush:
    log = Log("cluster-1", world.TOPIC, partition)
    judged = [Judged(raw(n, b""), 0, "RECEIPT", Disposition.QUARANTINED) for n in offsets]
    return Flush(log, 0, tuple(judged))


def test_who_dies_with_several_partitions_in_hand_blames_none_of_them_alone() -> None:
    page = bytearray(PAGE)
    with Mark(page).holding([flush(1, 7), flush(2, 3, 4, 8)]):
        found = read_mark(bytes(page), "m")
    assert [(d.log.partition, d.first, d.last) for d in found] == [(1, 7, 7), (2, 3, 8)]
    assert {d.phase for d in found} == {"SHARED"}
    assert len({d.mark for d in found}) == 2
    suspicion = Suspicion.of(found[:1] * 5)
    assert suspicion == Suspicion([(7, 7)] * 5)
    assert suspicion.until == 8
    with Mark(page).holding([flush(1, 7)]):
        assert [d.phase for d in read_mark(bytes(page), "m")] == ["WORK"]


def test_of_two_threads_that_worked_neither_is_blamed_alone_unless_it_says_so() -> None:
    page = bytearray(PAGE)
    mark = Mark(page)
    both = Barrier(2)

    def lane() -> None:
        with mark.holding([flush(2, 5)]):
            both.wait()
            both.wait()
            raise ZeroDivisionError

    with ThreadPoolExecutor(1) as other, mark.working(LOG, 1, 1):
        ended = other.submit(lane)
        both.wait()
        assert {d.phase for d in read_mark(bytes(page), "m")} == {"SHARED"}
        both.wait()
        assert isinstance(ended.exception(), ZeroDivisionError)
        phases = {d.log.partition: d.phase for d in read_mark(bytes(page), "m")}
    assert phases == {1: "WORK", 2: "FAULT"}


def test_more_partitions_than_a_slot_has_room_for() -> None:
    page = bytearray(PAGE)
    with Mark(page).holding([flush(n, n) for n in range(1000)]):
        found = read_mark(bytes(page), "m")
    assert len(found) > 100
    assert all(d.log.partition == d.first for d in found)


def test_the_store_is_waited_for_in_a_phase_of_its_own() -> None:
    page = bytearray(PAGE)
    phases: list[int] = []

    class Asked:
        database = "sealtrail"

        def __getattr__(self, name: str) -> Callable[..., Any]:
            return lambda *_: phases.append(page[8])

    mark = Mark(page)
    store = WaitingStore(Asked(), mark)
    with mark.working(LOG, 1, 1):
        store.query("SELECT 1")
        store.insert("t", (), (), "")
        store.insert_avro("", [], "")
        store.command("")
        assert page[8] == Phase.WORK
    store.query("SELECT 1")
    with mark.working(LOG, 1, 1), ThreadPoolExecutor(1) as other:
        other.submit(store.query, "SELECT 1").result()
    assert phases.pop() == Phase.WORK
    assert phases == [Phase.WAIT] * 4 + [Phase.IDLE]


def test_inserts_at_once_are_waited_for_and_all_have_ended_when_one_fails() -> None:
    page = bytearray(PAGE)
    mark, together, ended = Mark(page), Barrier(2, timeout=20), []

    def fails() -> None:
        together.wait()
        raise UnavailableError("the store is away")

    def slow() -> None:
        together.wait()
        time.sleep(0.1)
        ended.append([d.phase for d in read_mark(bytes(page), "w")])

    with mark.working(LOG, 3, 4):
        with pytest.raises(UnavailableError, match="away"):
            at_once(mark)([fails, slow])
        # By the mark of the thread that waits: who dies meanwhile was killed, by no message.
        assert ended == [["WAIT"]]
        assert [d.phase for d in read_mark(bytes(page), "w")] == ["WORK"]
    at_once(mark)([])


def test_inserts_go_on_in_turn_where_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(*_: object) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    done: list[int] = []
    at_once(Mark(bytearray(PAGE)))([partial(done.append, n) for n in range(3)])
    assert done == [0, 1, 2]


def test_deaths_from_outside_never_condemn() -> None:
    outside = [death(0, 9, n) for n in range(50)] + [death(4, 4, n, "WAIT") for n in range(50, 99)]
    suspicion = Suspicion.of(outside)
    assert suspicion.until == 10
    assert not any(suspicion.condemns(offset) for offset in range(10))


def test_the_first_death_in_the_stores_time_asks_for_no_care() -> None:
    page = bytearray(PAGE)
    mark = Mark(page)
    with mark.holding([flush(1, 7), flush(2, 3, 4)]), mark.waiting():
        killed = [d for d in read_mark(bytes(page), "w-1") if d.log.partition == 2]
    assert [(d.first, d.last, d.phase) for d in killed] == [(3, 4, "WAIT")]
    assert Suspicion.of(killed) == Suspicion()
    # Again, with some of the same in hand: it may be these.
    again = [*killed, death(4, 9, 2, "WAIT")]
    assert Suspicion.of(again) == Suspicion([(3, 4), (4, 9)])
    assert Suspicion.of([*killed, death(5, 9, 2, "WAIT")]) == Suspicion()
    assert Suspicion.of([*killed, death(4, 4, 2)]) == Suspicion([(3, 4), (4, 4)], {4: 1})


MANY = (0, 79)


@pytest.mark.parametrize(
    ("held", "groups"),
    [
        ([], [100]),
        ([MANY], [*[FEW] * 5, 20]),
        ([MANY] * 9, [*[FEW] * 5, 20]),
        ([MANY, (16, 18)], [FEW, 1, 1, 1, *[FEW] * 3, 13, 20]),
        ([(1, 2)], [1, 1, 1, 97]),
    ],
)
def test_each_death_narrows_what_is_taken_together(
    held: list[tuple[int, int]], groups: list[int]
) -> None:
    messages = [raw(n, b"") for n in range(100)]
    made = list(Suspicion(held).groups(messages))
    assert [len(group) for group in made] == groups
    assert [m.offset for group in made for m in group] == list(range(100))


class Killed(BaseException):
    pass


class Loop:
    """Workers over one scene that die as a worker would, and leave their marks on record."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scene = scene
        self.deaths = 0
        self.monkeypatch = monkeypatch

    def poison(self, where: str, name: str, poisonous: Callable[[Any], bool]) -> None:
        """Who calls this step with such an argument dies."""
        module: Any = self.scene if where == "partition" else self.scene.ledger
        real = getattr(module, name)

        def deadly(*args: Any, **kwargs: Any) -> Any:
            if any(poisonous(a) for a in args):
                raise Killed
            return real(*args, **kwargs)

        self.monkeypatch.setattr(module, name, deadly)

    def run(self) -> None:
        """Restart until everything is done."""
        while True:
            try:
                self.scene.run()
            except Killed:
                self.deaths += 1
                assert self.deaths < 20
                for found in read_mark(bytes(self.scene.page), f"w-{self.deaths}"):
                    self.scene.ledger.record_death(found)
            else:
                return


def test_who_kills_three_times_is_quarantined_and_all_others_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer, scene = world.Producer(), Scene()
    scene.append(producer.send(), producer.send(), b"poison", producer.send())
    loop = Loop(scene, monkeypatch)
    loop.poison("partition", "examine", lambda a: getattr(a, "value", None) == b"poison")
    loop.run()
    assert loop.deaths == ALONE
    assert scene.dispositions() == ["accepted", "accepted", "quarantined", "accepted"]
    assert scene.codes() == ["CRASH_LOOP"]
    # Its death is on record, and behind the cursor: the next worker works as ever.
    scene.append(producer.send(), producer.send())
    scene.run()
    assert scene.ledger.flushes[-1].first_offset == 4
    assert len(scene.ledger.flushes[-1].judged) == 2


def test_a_poison_that_kills_among_others_is_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    producer, scene = world.Producer(), Scene()
    scene.append(producer.send(), b"poison", producer.send())

    def holds_it(flush: Any) -> bool:
        judged = getattr(flush, "judged", ())
        return any(j.message.value == b"poison" and j.refused.code != "CRASH_LOOP" for j in judged)

    loop = Loop(scene, monkeypatch)
    loop.poison("ledger", "write", holds_it)
    loop.run()
    # Once with all three in hand, then alone.
    assert loop.deaths == 1 + ALONE
    assert scene.dispositions() == ["accepted", "quarantined", "accepted"]
    assert scene.codes() == ["CRASH_LOOP"]


def test_what_the_store_holds_already_is_no_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    producer, scene = world.Producer(), Scene()
    scene.append(producer.send())
    for number in range(ALONE):
        scene.ledger.record_death(Death(scene.log, 0, 0, "WORK", f"w-{number}"))
    monkeypatch.setattr(scene.ledger, "holds", lambda *_: True)
    scene.run()
    assert scene.dispositions() == ["accepted"]


def test_the_mark_costs_next_to_nothing(tmp_path: Path) -> None:
    marks = Marks(tmp_path, "w")
    before = os.times()
    for number in range(20_000):
        with marks.own.working(LOG, number, number + 5) as mark:
            mark.at(number, number)
    spent = os.times().user - before.user + os.times().system - before.system
    marks.close()
    # Measured: 1 us; far above that something would be written through.
    assert spent / 20_000 < 20e-6
