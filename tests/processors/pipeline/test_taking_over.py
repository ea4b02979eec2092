"""Taking partitions over while the store is away: in time, or not at all; and how Faust ends.

Faust waits for an assignment as long as for an answer of the broker, and then goes on as if it had
been told where to read. A worker that stayed would drop every message.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from mode.worker import exiting

from sealtrail.errors import UnavailableError
from sealtrail_processor.pipeline.app import _served
from sealtrail_processor.pipeline.member import _assigned
from sealtrail_processor.pipeline.worker import EXIT_FAILED
from sealtrail_processor.reporting.metrics import Status

if TYPE_CHECKING:
    from collections.abc import Callable

TOPIC = "provenance.events"


class Left(Exception):  # noqa: N818 - what leaving looks like here
    pass


class Worker:
    """Takes over when `store` answers."""

    def __init__(self, store: Callable[[], dict[int, int]]) -> None:
        self.status = Status()
        self.store = store

    def assign(self, topic: str, numbers: list[int], generation: int) -> dict[int, int]:
        return self.store()

    def in_flush_thread(self, work: Any, *args: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args))
        except UnavailableError as error:
            done.set_exception(error)
        return done

    def leave(self, status: int) -> None:
        raise Left(status)


class Silent(Worker):
    """Whose store does not answer at all: its job never ends."""

    def in_flush_thread(self, work: Any, *args: Any) -> Future[Any]:
        return Future()


def app(timeout_s: float) -> Any:
    return SimpleNamespace(
        should_stop=False,
        consumer_generation_id=1,
        conf=SimpleNamespace(broker_request_timeout=timeout_s),
    )


async def take_over(worker: Worker, timeout_s: float) -> dict[int, int]:
    anything: Any = worker
    return await _assigned(app(timeout_s), anything, TOPIC, [0, 1], 1)


def away() -> dict[int, int]:
    raise UnavailableError("the store is away")


async def test_it_waits_for_a_store_that_comes_back() -> None:
    answers = iter([away, away, lambda: {0: 7, 1: 9}])

    def store() -> dict[int, int]:
        return next(answers)()

    worker = Worker(store)
    assert await take_over(worker, 60) == {0: 7, 1: 9}
    assert worker.status.waiting == ""


async def test_it_leaves_before_faust_goes_on_without_it() -> None:
    worker = Worker(away)
    with pytest.raises(Left) as left:
        await asyncio.wait_for(take_over(worker, 1.0), 0.95)
    assert left.value.args == (EXIT_FAILED,)
    assert worker.status.waiting == "the store is away"


async def test_it_leaves_when_the_store_does_not_answer_at_all() -> None:
    worker = Silent(away)
    task = asyncio.ensure_future(take_over(worker, 0.2))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(Left):
        await task


async def test_another_rebalance_is_no_reason() -> None:
    worker = Silent(away)
    task = asyncio.ensure_future(take_over(worker, 60))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_later_generation_asks_anew() -> None:
    worker = Worker(away)
    application = app(60)
    anything: Any = worker
    task = asyncio.ensure_future(_assigned(application, anything, TOPIC, [0, 1], 1))
    await asyncio.sleep(0.05)
    application.consumer_generation_id = 2
    assert await asyncio.wait_for(task, 5) == {}


class Process:
    """Faust's worker: it makes a status of whatever it fails with."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure

    def execute_from_commandline(self) -> None:
        with exiting():
            if self.failure is not None:
                raise self.failure


def test_why_faust_failed_is_told(caplog: pytest.LogCaptureFixture) -> None:
    process: Any = Process(OSError("no more descriptors"))
    with pytest.raises(SystemExit) as ended:
        _served(process)
    assert ended.value.code == EXIT_FAILED
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [
        "faust failed: OSError('no more descriptors')"
    ]


def test_a_worker_that_was_asked_to_stop_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    process: Any = Process(None)
    with pytest.raises(SystemExit) as ended:
        _served(process)
    assert ended.value.code == 0
    assert caplog.records == []
