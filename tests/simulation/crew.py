"""The workers of a simulated world: who lives, who is at work, who is frozen."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.simulation.crypto import TOPIC
from tests.simulation.group import PARTITIONS
from tests.simulation.worker import Worker

from sealtrail.errors import SealtrailError
from sealtrail_processor.judging.ports import LogChanged, SkippedMessages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.simulation.world import World

    from sealtrail_processor.judging.model import Flush


class Crash(BaseException):
    """A process dies here. No product code may catch it."""


class Crew:
    """Workers of one group.

    Args:
        world: theirs.
        most: how many there are at a time.
    """

    def __init__(self, world: World, most: int) -> None:
        self.most = most
        self.workers: list[Worker] = []
        # Who is at work, on what; a flush that takes its time may have another one within.
        self.busy: tuple[Worker, ...] = ()
        self.in_hand: tuple[Flush, ...] = ()
        self.frozen: deque[tuple[Worker, tuple[Flush, ...]]] = deque()
        self._world = world
        self._started = 0

    @contextmanager
    def holding(self, flushes: Sequence[Flush]) -> Iterator[None]:
        """A worker that is frozen within may wake up and write these."""
        before, self.in_hand = self.in_hand, tuple(flushes)
        try:
            yield
        finally:
            self.in_hand = before

    def everybody(self) -> bool:
        """A turn of each worker; whether there was something to do."""
        self.somebody()
        worked = False
        # Any of them may be gone by its turn: others may have taken theirs within a flush.
        for worker in list(self.workers):
            if worker in self.workers:
                worked |= self.turn(worker, range(PARTITIONS))
        for worker in list(self.workers):
            self.act(worker, worker.commit)
        return worked

    def somebody(self) -> Worker:
        """A worker that is not busy; one is started if there are not so many."""
        at = self._world.tape.below(4) // 3 if self.most > 1 else 0
        free = [worker for worker in self.workers if worker not in self.busy]
        if at >= len(free) and (not free or len(self.workers) < self.most):
            self._started += 1
            free.append(Worker(self._world, f"worker {self._started}"))
            self.workers.append(free[-1])
        return free[min(at, len(free) - 1)]

    def consume(self, *numbers: int) -> bool:
        """A turn of a worker."""
        return self.turn(self.somebody(), numbers)

    def turn(self, worker: Worker, numbers: Sequence[int]) -> bool:
        """A turn of this one; whether there was something to do."""
        # One that a broker without a disk has forgotten hears of it sooner or later.
        if worker not in self._world.group.members and (
            self._world.quiet or self._world.tape.one_in(2)
        ):
            self._world.group.join(worker)
        if not self._world.tape.one_in(4):
            self._world.group.complete()
        if worker.lost:
            self._world.note(f"{worker.name} leaves: a generation came again")
            self.end(worker)
            return True
        if not self._world.tape.one_in(4):
            self.act(worker, worker.seek)
        return worker in self.workers and self.act(worker, lambda: worker.turn(numbers))

    def act(self, worker: Worker, what: Callable[[], bool | None]) -> bool:
        """A worker does something, which may be its end."""
        before = self.busy
        self.busy = (*before, worker)
        try:
            return bool(what())
        except (LogChanged, SkippedMessages) as error:
            self._world.note(f"{worker.name} leaves: {error.message}")
        except SealtrailError as error:
            self._world.note(f"{worker.name} is not told where to read: {error.message}")
            return False
        except Crash:
            pass
        finally:
            self.busy = before
        self.end(worker)
        return True

    def end(self, worker: Worker) -> None:
        """A worker's process is gone."""
        self.workers.remove(worker)
        worker.end()

    def kill(self) -> None:
        """A worker dies."""
        if self.workers:
            worker = self.workers[self._world.tape.below(len(self.workers))]
            self._world.note(f"{worker.name} is killed")
            self.end(worker)

    def commit(self) -> None:
        """Somebody's time has come to tell the group what was acknowledged."""
        if self.workers:
            worker = self.workers[self._world.tape.below(len(self.workers))]
            if worker in self.busy:
                worker.commit()
            else:
                self.act(worker, worker.commit)

    def watch(self) -> None:
        """The watchdog ends workers that stand still; right where nothing is to be read.

        A log that dropped all that was unread brings no message that would show the loss.
        """
        for worker in [worker for worker in self.workers if worker.stuck()]:
            self._world.note(f"the watchdog ends {worker.name}")
            for number in worker.owned:
                start, end = self._world.broker.watermarks(TOPIC, number)
                at = worker.partitions[number].next_offset
                if max(at, start) < end:
                    self._world.broken.append(f"STUCK: {worker.name} stands at {at} of {number}")
            self.end(worker)

    def thaw(self) -> None:
        """A frozen worker wakes up in the middle of its flush, and goes on."""
        if self.frozen:
            worker, flushes = self.frozen.popleft()
            ends = ", ".join(f"{f.first_offset}-{f.last_offset}" for f in flushes)
            self._world.note(f"{worker.name} wakes up and ends its flush of {ends}")
            quiet, self._world.quiet = self._world.quiet, True
            worker.wake(flushes)
            self._world.quiet = quiet
