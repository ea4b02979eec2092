"""A worker's process in the simulated world, as a member of its group.

Real are what it does with partitions (`Assigned`, `Together`), with messages (`consuming.settle`),
its watchdog, its sink, and Faust's bookkeeping of acknowledgements. What `app`, `lane` and `member`
do with an event loop is done here by turns: messages wait in lanes, those of a lane that could not
be committed are tried again, and a rebalance may come between any two turns.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.simulation import crypto
from tests.simulation.acks import Acks, Message
from tests.simulation.crypto import TOPIC
from tests.simulation.engine import SimSink
from tests.simulation.group import PARTITIONS

from sealtrail.errors import SealtrailError
from sealtrail.validate import Place
from sealtrail_processor.judging.clock import Tolerances
from sealtrail_processor.judging.judge import Rules
from sealtrail_processor.judging.ports import LogChanged, SkippedMessages
from sealtrail_processor.kafka import consuming
from sealtrail_processor.pipeline.assigned import Assigned
from sealtrail_processor.pipeline.cutting import Caps
from sealtrail_processor.pipeline.marks import PAGE, Mark
from sealtrail_processor.pipeline.step import Ports
from sealtrail_processor.pipeline.together import Together
from sealtrail_processor.pipeline.watchdog import Watchdog
from sealtrail_processor.store.ledger import StoreLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence

    from tests.simulation.world import World

    from sealtrail_processor.judging.model import Flush, Log, RawMessage

SETTLE_US = 30_000_000
# Of refused messages an hour: some are on record without their bytes.
KEPT_BYTES = 900
# How long a worker may stand still, after the watchdog's own ten seconds; in production 30.
PATIENCE_S = 5.0
# Messages of a lane that wait while it is at work.
MOST_HELD = 12


@dataclass(frozen=True)
class _Event:
    message: Message


@dataclass
class _Lane:
    """Messages that wait, those that are at work, and how far that has come."""

    held: deque[_Event] = field(default_factory=deque)
    events: list[_Event] = field(default_factory=list)
    work: Coroutine[Any, Any, bool] | None = None


class _Pause:
    """Between two attempts."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Worker:
    """A process."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.sink = SimSink(world.store, world.randbits)
        self.position: dict[int, int] = {}
        self.owned: tuple[int, ...] = ()
        self._world = world
        self._acks = Acks()
        self._lanes = [_Lane() for _ in range(world.lanes)]
        # `app.consumer_generation_id`, and the one in which it was told where to read.
        self._generation = self._sought = -1
        self._joining = True
        # A generation came again: `member` ends the process.
        self.lost = False
        ledger = StoreLedger(world.store)
        mark = Mark(bytearray(PAGE))
        ports = Ports(
            ledger=ledger,
            sink=self,
            broker=world.broker,
            directory=crypto.directory(world.producers),
            refresh_keys=lambda: None,
            report=world.report,
            committed=lambda flush: None,
            now=lambda: world.clock.time_us,
            mark=mark,
            holding=world.held,
        )
        together = Together(self, ledger, ports.now, ports.refresh_keys, at_once, mark)
        caps = Caps(events=6, bytes=1 << 20)
        self._assigned = Assigned(ports, _rules, caps, together, lambda partition: None)
        self.partitions = self._assigned.partitions
        self._watchdog = Watchdog(PATIENCE_S)
        world.group.join(self)

    # -- as a member --------------------------------------------------------------

    def revoked(self) -> None:
        """Member.revoked."""
        self._joining = True
        self._acks.revoked(self.owned)
        self._assigned.revoke(self.owned)

    def given(self, generation: int, numbers: Sequence[int]) -> None:
        """Member.given."""
        self.lost |= generation <= self._generation
        self._joining = False
        self._generation, self.owned = generation, tuple(numbers)

    @property
    def flows(self) -> bool:
        """Whether messages are handed over."""
        return not self._joining and self._sought == self._generation

    def seek(self) -> None:
        """Ask where to read, and begin there; the group is told of what is committed."""
        if self._joining or self.flows:
            return
        offsets = self._assigned.take_over(TOPIC, self.owned, self._generation)
        self.position = offsets
        self._sought = self._generation
        self._watchdog.assigned(self._world.clock.steady)
        self._tell({number: offset for number, offset in offsets.items() if offset})
        self._acks.sought(offsets)

    def commit(self) -> None:
        """Tell the group what was acknowledged, if it may be told now."""
        offsets = self._acks.committable(self.owned)
        if not self._joining:
            self._tell(offsets)

    def _tell(self, offsets: Mapping[int, int]) -> None:
        if offsets:
            self._world.fault("telling the group", done=False)
            self._world.group.commit(self, self._generation, offsets)

    def wake(self, flushes: Sequence[Flush]) -> None:
        """It was frozen in a flush, and knows nothing of what came meanwhile."""
        SimSink(self._world.store, self._world.randbits).write_together(flushes)
        ended = {f.log.partition: f.last_offset for f in flushes}
        for lane in self._lanes:
            for event in lane.events:
                if event.message.offset <= ended.get(event.message.partition, -1):
                    self._acks.ack(event.message)
        self.commit()

    # -- as a sink ----------------------------------------------------------------

    def write(self, flush: Flush) -> None:
        """Sink.write; a worker that is frozen within it may wake up much later, and go on."""
        with self._world.crew.holding((flush,)):
            self.sink.write(flush)

    def write_together(self, flushes: Sequence[Flush]) -> None:
        """Sink.write_together."""
        with self._world.crew.holding(flushes):
            self.sink.write_together(flushes)

    def write_lost(self, log: Log, first: int, last: int, arrival: int) -> None:
        """Sink.write_lost."""
        self.sink.write_lost(log, first, last, arrival)

    # -- messages -----------------------------------------------------------------

    def turn(self, numbers: Sequence[int]) -> bool:
        """Take some messages of partitions, and go on with their lanes; whether there were any."""
        if self.flows:
            for number in numbers:
                if number in self.position:
                    self._fetch(number)
        lanes = sorted({number % len(self._lanes) for number in numbers})
        worked = [self._go_on(self._lanes[at]) for at in lanes]
        if not any(worked) and self.flows and self.owned:
            self.partitions[self.owned[0]].check_log()
        return any(worked)

    def _fetch(self, number: int) -> None:
        tape, at = self._world.tape, self.position[number]
        held = self._lanes[number % len(self._lanes)].held
        if len(held) >= MOST_HELD:
            return
        how = tape.below(24)
        if how == 22:
            at = max(at - 1 - tape.below(3), 0)
        elif how == 23:
            at += 1
        for raw in self._world.broker.read(number, at, 1 + tape.below(5)):
            self._acks.fetched(number, raw.offset)
            held.append(_Event(Message(raw, number, self._generation)))
            self.position[number] = max(self.position[number], raw.offset + 1)

    def _go_on(self, lane: _Lane) -> bool:
        if lane.work is None:
            if not lane.held:
                return False
            count = max(len(lane.held) - self._world.tape.below(4), 1)
            lane.events = [lane.held.popleft() for _ in range(count)]
            generation = self._generation
            commit = partial(self._until_committed, generation)
            lane.work = consuming.settle(lane.events, generation, _raw, commit, self._acknowledge)
            for partition in self.partitions.values():
                partition.evict(pending=lambda state: False)
        try:
            lane.work.send(None)
        except StopIteration:
            dropped = [event.message.offset for event in lane.events if not event.message.acked]
            if dropped:
                self._world.dropped += len(dropped)
                self._world.note(f"{self.name} drops offsets {dropped}, which were taken away")
            lane.work, lane.events = None, []
        return True

    async def _until_committed(
        self, generation: int, groups: Mapping[int, Sequence[RawMessage]]
    ) -> set[int]:
        while True:
            try:
                return self._assigned.process(groups, generation)
            except (LogChanged, SkippedMessages):
                raise
            except SealtrailError as error:
                self._world.note(f"partitions {sorted(groups)} wait: {error.message}")
            await _Pause()

    async def _acknowledge(self, event: _Event) -> None:
        self._world.fault("acknowledge", done=False)
        self._acks.ack(event.message)

    def holds(self, number: int) -> bool:
        """Whether messages are in hand."""
        return any(
            event.message.partition == number
            for lane in self._lanes
            for event in (*lane.held, *lane.events)
        )

    # -- its end --------------------------------------------------------------------

    def stuck(self) -> bool:
        """What the watchdog says, from what the worker's upkeep would tell it."""
        broker = self._world.broker
        own = [n for n in self.owned if n in self.partitions]
        done = {n: self._world.group.offsets.get(n, 0) for n in range(PARTITIONS)}
        return self._watchdog.observe(
            self._world.clock.steady,
            {n: broker.watermarks(TOPIC, n)[1] for n in range(PARTITIONS)},
            done | {n: self.partitions[n].next_offset for n in own},
            own=own,
            waiting=False,
            working=False,
        )[1]

    def end(self) -> None:
        """The process is gone."""
        self._world.group.leave(self)
        for lane in self._lanes:
            if lane.work is not None:
                lane.work.close()


def _raw(message: Message) -> RawMessage:
    return message.raw


def _rules(log: Log) -> Rules:
    place = Place("local", frozenset({"default"}), log.topic, log.partition)
    return Rules(place, Tolerances(), SETTLE_US, kept_bytes=KEPT_BYTES)


def at_once(work: Callable[..., None], *arguments: Any) -> Future[None]:
    """The flush thread: there is only one thread here."""
    done: Future[None] = Future()
    work(*arguments)
    done.set_result(None)
    return done
