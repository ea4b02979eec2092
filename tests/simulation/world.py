"""One simulated world: producers, brokers, a worker and a store, and a schedule for all of them.

Real are the SDK (`Trail` without threads: intake, flusher, spool on a memory disk, sender, pacing,
adoption), the worker's part without Faust (`consuming.settle`, `Partition`, judging, the chains),
and the sink with its tokens and containers. Simulated are broker, network, store and clock. There
are no threads and no wall clock: what happens is a function of the tape.
"""

from __future__ import annotations

import random
from collections import deque
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tests.simulation import crypto
from tests.simulation.crypto import TOPIC
from tests.simulation.engine import SimSink, SimStore, keys_of_tables
from tests.simulation.network import PARTITIONS, SimBroker, SimTransport
from tests.simulation.tape import Tape

from sealtrail.errors import SealtrailError
from sealtrail.event import EntityRef
from sealtrail.validate import Place
from sealtrail_processor.judging.clock import Tolerances
from sealtrail_processor.judging.judge import Rules
from sealtrail_processor.judging.model import Log, RawMessage
from sealtrail_processor.judging.ports import LogChanged, SkippedMessages
from sealtrail_processor.kafka import consuming
from sealtrail_processor.pipeline.cutting import Caps
from sealtrail_processor.pipeline.holding import Holding
from sealtrail_processor.pipeline.marks import PAGE, Mark
from sealtrail_processor.pipeline.partition import Partition
from sealtrail_processor.pipeline.partition import Ports as WorkerPorts
from sealtrail_processor.pipeline.together import Together
from sealtrail_processor.pipeline.watchdog import Watchdog
from sealtrail_processor.store.client import StoreUnavailable
from sealtrail_processor.store.ledger import StoreLedger
from sealtrail_producer import Trail
from sealtrail_producer import trail as trails
from sealtrail_producer.fakes import FakeClock, FakeRegistry
from sealtrail_producer.ports import Ports
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path

    from sealtrail.event import ParentRef
    from sealtrail_processor.judging.model import Finding, Flush
    from sealtrail_producer.pending import Receipt

# Producer and instance; two of one producer.
INSTANCES = (("orders", "a"), ("orders", "b"), ("billing", "c"))
PRODUCERS = tuple(sorted({name for name, _ in INSTANCES}))
STEPS = 70
SETTLE_US = 30_000_000
# Of the simulated clock, which moves by a millisecond at each look.
CLOSE_S = 0.03
# How long a worker may stand still, after the watchdog's own ten seconds; in production 30.
PATIENCE_S = 5.0
# Turns of 0.2 s in which all must come to rest: time for the watchdog, and for what follows.
ROUNDS = 100


class Crash(BaseException):
    """A process dies here. No product code may catch it."""


@dataclass
class Service:
    """A producer's process, its lives and what it may count on.

    emitted: receipts of the life that is on; promised: leaf hash and parents of events that were in
    the spool, by their ids: they must reach the store.
    """

    world: World
    producer: str
    instance: str
    trail: Trail | None = None
    emitted: list[tuple[Receipt, tuple[ParentRef, ...]]] = field(default_factory=list)
    promised: dict[bytes, tuple[bytes, tuple[ParentRef, ...]]] = field(default_factory=dict)

    @property
    def core(self) -> Any:
        """Inside of the trail, which is opened if it is not."""
        if self.trail is None:
            self.world.note(f"{self.instance} starts")
            self.trail = self.world.open(self)
            self.emitted = []
        return self.trail._core

    def emit(self) -> None:
        """Some events, caused by others of anybody."""
        tape = self.world.tape
        self.core  # noqa: B018 - it opens the trail
        for _ in range(1 + tape.below(3)):
            known = self.world.known
            causes = [known[tape.below(len(known))] for _ in range(tape.below(3)) if known]
            parents = tuple(dict.fromkeys(causes))
            receipt = self.trail.emit(
                "sim.step",
                event_type="TRANSFORM",
                outputs=[EntityRef("sim", self.instance)],
                parents=parents,
                durable=tape.one_in(6),
            )
            self.emitted.append((receipt, parents))
            self.world.known.append(receipt.reference)
        self.keep()

    def keep(self) -> None:
        """What is in the spool now is promised."""
        if self.trail is not None and self.trail._core is not None:
            placed = self.trail._core.flusher.placed
            for receipt, parents in self.emitted[:placed]:
                leaf = receipt.reference.leaf_hash
                self.promised[receipt.event_id] = (leaf, parents)

    def flush(self) -> None:
        """A turn of the flusher."""
        self.core.flush_step()
        self.keep()

    def send(self) -> None:
        """A turn of the sender."""
        self.core.send_step()

    def crash(self) -> None:
        """The process dies: its memory is gone, its files stay."""
        if self.trail is not None:
            self.world.note(f"{self.instance} is killed")
            self.keep()
            self.trail._forked()
            self.trail._closed = True
            # The process would be gone: this one must not hold it, and its world, to its end.
            trails._trails.discard(self.trail)
            self.trail = None

    def close(self) -> None:
        """The process ends as it should."""
        if self.trail is not None:
            core = self.trail._core
            self.trail.close(CLOSE_S)
            placed = core.flusher.placed
            for receipt, parents in self.emitted[:placed]:
                self.promised[receipt.event_id] = (receipt.reference.leaf_hash, parents)
            self.trail = None

    @property
    def done(self) -> bool:
        """Whether the brokers have everything, what dead processes left behind included."""
        core = self.core
        adopting = core.adoption is None or core.adoption.active
        return bool(core.flusher.idle() and core.spool.empty and not adopting)


@dataclass(frozen=True)
class _Message:
    raw: RawMessage
    partition: int
    generation_id: int = 1


@dataclass(frozen=True)
class _Event:
    message: _Message


class Worker:
    """A worker's process."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sink = SimSink(world.store, world.randbits)
        self.partitions: dict[int, Partition] = {}
        self.position: dict[int, int] = {}
        self._unfinished: list[_Event] = []
        log_id = world.broker.log_id(TOPIC)
        ledger = StoreLedger(world.store)
        mark = Mark(bytearray(PAGE))
        self._together = Together(
            self, ledger, lambda: world.clock.time_us, lambda: None, at_once, mark
        )
        for number in range(PARTITIONS):
            place = Place("local", frozenset({"default"}), TOPIC, number)
            ports = WorkerPorts(
                ledger=ledger,
                sink=self,
                broker=world.broker,
                directory=crypto.directory(PRODUCERS),
                refresh_keys=lambda: None,
                report=world.report,
                committed=lambda flush: None,
                now=lambda: world.clock.time_us,
                mark=mark,
                holding=world.held,
            )
            rules = Rules(place, Tolerances(), SETTLE_US)
            caps = Caps(events=6, bytes=1 << 20)
            partition = Partition(Log(log_id, TOPIC, number), ports, rules, caps)
            partition.suspect(ledger.deaths(log_id, TOPIC))
            partition.catch_up()
            self.partitions[number] = partition
            self.position[number] = partition.next_offset
            if partition.next_offset:
                # As the worker acknowledges what is committed when it is assigned a partition.
                world.broker.group[number] = partition.next_offset
        self._watchdog = Watchdog(PATIENCE_S)
        self._watchdog.assigned(world.clock.steady)

    def write(self, flush: Flush) -> None:
        """Sink.write; a worker that is frozen within it may wake up much later, and go on."""
        with self._world.holding((flush,)):
            self.sink.write(flush)

    def write_together(self, flushes: Sequence[Flush]) -> None:
        """Sink.write_together."""
        with self._world.holding(flushes):
            self.sink.write_together(flushes)

    def write_lost(self, log: Log, first: int, last: int, arrival: int) -> None:
        """Sink.write_lost."""
        self.sink.write_lost(log, first, last, arrival)

    def turn(self, numbers: Sequence[int]) -> bool:
        """Take some messages of partitions, together; whether there were any."""
        again = self._unfinished
        events = again or [event for number in numbers for event in self._fetch(number)]
        if not events:
            self.partitions[0].check_log()
            return False
        self._unfinished = events
        for partition in self.partitions.values():
            partition.evict(pending=lambda state: False)
        if drive(consuming.settle(events, 1, _raw, self._commit, self._acknowledge)):
            self._unfinished = []
            for event in events:
                number, offset = event.message.partition, event.message.raw.offset
                self.position[number] = max(self.position[number], offset + 1)
        return True

    def stuck(self) -> bool:
        """What the watchdog says, from what the worker's upkeep would tell it."""
        numbers = sorted(self.partitions)
        return self._watchdog.observe(
            self._world.clock.steady,
            {n: self._world.broker.watermarks(TOPIC, n)[1] for n in numbers},
            {n: self.partitions[n].next_offset for n in numbers},
            own=numbers,
            waiting=False,
            working=False,
        )[1]

    def holds(self, number: int) -> bool:
        """Whether messages are in hand."""
        return any(event.message.partition == number for event in self._unfinished)

    def _fetch(self, number: int) -> list[_Event]:
        tape, at = self._world.tape, self.position[number]
        how = tape.below(24)
        if how == 22:
            at = max(at - 1 - tape.below(3), 0)
        elif how == 23:
            at += 1
        count = 1 + tape.below(5)
        found = self._world.broker.read(number, at, count)
        return [_Event(_Message(raw, number)) for raw in found]

    async def _commit(self, groups: Mapping[int, Sequence[RawMessage]]) -> set[int] | None:
        work = [(self.partitions[n], m) for n, m in groups.items()]
        try:
            return self._together.process(work)
        except (LogChanged, SkippedMessages):
            raise
        except SealtrailError as error:
            self._world.note(f"partitions {sorted(groups)} wait: {error.message}")
            return None

    async def _acknowledge(self, event: _Event) -> None:
        self._world.fault("acknowledge", done=False)
        number, group = event.message.partition, self._world.broker.group
        group[number] = max(group.get(number, 0), event.message.raw.offset + 1)


def _raw(message: _Message) -> RawMessage:
    return message.raw


def at_once(work: Callable[..., None], *arguments: Any) -> Future[None]:
    """The flush thread: there is only one thread here."""
    done: Future[None] = Future()
    work(*arguments)
    done.set_result(None)
    return done


def drive(coroutine: Coroutine[Any, Any, bool]) -> bool:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return bool(end.value)
    raise AssertionError("something waited in a simulation")


class World:
    """Everything, from a tape.

    Args:
        tape: all chance.
        folder: a folder on a memory disk, empty.
        most: chains of a partition that a worker holds; it calls them resting whatever they wait
            for, since no timers are simulated.
    """

    def __init__(self, tape: Tape, folder: Path, most: int = 10_000) -> None:
        self.tape = tape
        self.trace: list[str] = []
        self.broken: list[str] = []
        self.quiet = False
        self.clock = FakeClock(crypto.START_US)
        self._entropy = random.Random(7)
        self.randbits = random.Random(8).getrandbits
        self.store = SimStore(self.fault, keys_of_tables())
        self.broker = SimBroker(tape, self.tick, self.note, append_time=not tape.below(2))
        # With pacing nothing is lost even when the broker is; without, its losses are allowed.
        self.paced = bool(tape.below(2))
        self.lossy = not self.paced and tape.below(4) == 3
        self.registry = FakeRegistry()
        self.folder = folder
        self.known: list[ParentRef] = []
        self.reported: set[tuple[Log, int]] = set()
        self.services = [Service(self, *names) for names in INSTANCES]
        self.worker: Worker | None = None
        self.in_hand: tuple[Flush, ...] = ()
        self.may_freeze = True
        self.frozen: deque[tuple[Flush, ...]] = deque()
        self.held = Holding(most)

    # -- what parts need --------------------------------------------------------

    def note(self, text: str) -> None:
        """A line of the trace."""
        self.trace.append(text)

    def tick(self) -> int:
        """The broker's clock."""
        self.clock.advance(0.000_5)
        return self.clock.time_us

    def open(self, service: Service) -> Trail:
        """A trail of a service."""
        settings = _settings(self.folder, service.instance, 2_000 if self.paced else 0)
        ports = Ports(
            transport=lambda: SimTransport(self.broker),
            registry=lambda: self.registry,
            group=lambda: self.broker,
            clock=self.clock,
            entropy=self._entropy.randbytes,
        )
        key = crypto.key_of(service.producer)
        return Trail(service.producer, settings, [key], ports, threads=False)

    def report(self, log: Log, offset: int, finding: Finding) -> None:
        """A finding of no flush."""
        del finding
        self.reported.add((log, offset))

    @contextmanager
    def holding(self, flushes: Sequence[Flush]) -> Iterator[None]:
        """A worker that is frozen within may wake up and write these."""
        self.in_hand = tuple(flushes)
        try:
            yield
        finally:
            self.in_hand = ()

    def fault(self, what: str, *, done: bool) -> None:
        """Something may go wrong before or after what is done."""
        if self.quiet or not self.tape.one_in(60):
            return
        when = "after" if done else "before"
        kind = self.tape.below(3)
        if kind == 0 and what != "acknowledge":
            self.note(f"the store fails {when} {what}")
            raise StoreUnavailable(f"simulated, {when} {what}")
        if kind == 1 and self.in_hand and self.may_freeze:
            self.note(f"the worker is frozen {when} {what}")
            self.frozen.append(self.in_hand)
        else:
            self.note(f"the worker is killed {when} {what}")
        raise Crash

    # -- actions ----------------------------------------------------------------

    def run(self) -> None:
        """The schedule, then quiet, until everything is where it belongs."""
        for _ in range(STEPS):
            if self.tape.ended:
                break
            _ACTIONS[self.tape.below(len(_ACTIONS))](self)
            self.tick()
        self.drain()

    def work(self) -> None:
        """Everybody takes a turn."""
        for service in self.services:
            service.flush()
            service.send()
        self.clock.advance(0.2)
        self.consume(*range(PARTITIONS))

    def service(self) -> Service:
        """Any of them."""
        return self.services[self.tape.below(len(self.services))]

    def consume(self, *numbers: int) -> bool:
        """A turn of the worker, which is started if there is none."""
        try:
            if self.worker is None:
                self.worker = Worker(self)
            return self.worker.turn(numbers)
        except (LogChanged, SkippedMessages) as error:
            self.note(f"the worker leaves: {error.message}")
        except SealtrailError as error:
            self.note(f"the worker does not start: {error.message}")
            return False
        except Crash:
            pass
        self.kill_worker()
        return True

    def kill_worker(self) -> None:
        """The worker dies; what the group has must be durable by then."""
        self.worker = None
        self.ahead()

    def watch(self) -> None:
        """The watchdog ends a worker that stands still; that is right where nothing is to be read.

        A log that dropped all that was unread brings no message that would show the loss.
        """
        if self.worker is None or not self.worker.stuck():
            return
        self.note("the watchdog ends the worker")
        for number, partition in self.worker.partitions.items():
            start, end = self.broker.watermarks(TOPIC, number)
            if max(partition.next_offset, start) < end:
                at = partition.next_offset
                self.broken.append(f"STUCK: the worker stands at {at} of partition {number}")
        self.kill_worker()

    def ahead(self) -> None:
        """No committed offset without a durable row."""
        for number, offset in self.broker.group.items():
            end = self.store.committed_end(f"cluster-{self.broker.lives}", TOPIC, number)
            if offset > end + 1:
                text = f"AHEAD: the group is at {offset} of partition {number}, the store at {end}"
                self.broken.append(text)

    def thaw(self) -> None:
        """A frozen worker wakes up in the middle of its flush, and ends it."""
        if self.frozen:
            flushes = self.frozen.popleft()
            ends = ", ".join(f"{f.first_offset}-{f.last_offset}" for f in flushes)
            self.note(f"a frozen worker wakes up and ends its flush of {ends}")
            quiet, self.quiet = self.quiet, True
            SimSink(self.store, self.randbits).write_together(flushes)
            self.quiet = quiet

    def lose(self) -> None:
        """The broker loses what it may lose, unless a flush is under way or was left behind.

        What such a flush brings, or has brought, shows after its messages were committed as lost:
        the one thing that doubles (docs/adr/0056). Retention is taken to be longer than a flush.
        """
        if self.frozen:
            return
        self.may_freeze = False
        if self.paced:
            if self.tape.one_in(4):
                self.broker.begin_anew()
        elif self.lossy:
            number = self.tape.below(PARTITIONS)
            log_id = f"cluster-{self.broker.lives}"
            read = self.store.committed_end(log_id, TOPIC, number) + 1
            place = {"log": log_id, "topic": TOPIC, "partition": number}
            left = any(
                row["offset"] >= read
                for table in ("events", "dispositions", "batches")
                for row in self.store.of(table, place)
            )
            if not left and not (self.worker and self.worker.holds(number)):
                self.broker.drop_head(number, 1 + self.tape.below(4), read)

    def drain(self) -> None:
        """Nothing goes wrong any more: all that was promised must arrive."""
        self.quiet = True
        self.tape = self.broker.tape = Tape()
        self.broker.away = 0
        self.note("-- quiet from here on")
        for closing in (False, True):
            for _ in range(ROUNDS):
                self.work()
                self.thaw()
                self.broker.deliver_late()
                while self.consume(*range(PARTITIONS)):
                    pass
                self.watch()
                if self._settled():
                    break
            else:
                self.broken.append("STUCK: not everything is delivered and committed")
            if not closing:
                for service in self.services:
                    service.close()
        for service in self.services:
            service.close()

    def _settled(self) -> bool:
        ends = (len(self.broker.log(n)) for n in range(PARTITIONS))
        read = self.worker is not None and all(
            self.worker.partitions[n].next_offset == end for n, end in enumerate(ends)
        )
        return (
            read
            and not self.broker.late
            and not self.frozen
            and all(service.done for service in self.services)
        )


@lru_cache(maxsize=16)
def _settings(folder: Path, instance: str, pace_bytes: int) -> ProducerSettings:
    return ProducerSettings(
        state_dir=folder,
        instance=instance,
        partitions=PARTITIONS,
        batch_events=3,
        heartbeat_s=2,
        chain_s=20,
        pace_bytes=pace_bytes,
    )


def _advance(world: World) -> None:
    world.clock.advance(0.1 * (1 + world.tape.below(60)))


def _away(world: World) -> None:
    world.broker.away = 1 + world.tape.below(6)
    world.note(f"the broker is away for {world.broker.away} requests")


_ACTIONS: tuple[Callable[[World], object], ...] = (
    World.work,
    *[lambda w: w.service().emit()] * 6,
    *[lambda w: w.service().flush()] * 4,
    *[lambda w: w.service().send()] * 5,
    *[lambda w: w.consume(w.tape.below(PARTITIONS))] * 4,
    *[lambda w: w.consume(*range(PARTITIONS))] * 3,
    *[_advance] * 2,
    lambda w: w.broker.deliver_late(),
    lambda w: w.kill_worker(),
    lambda w: w.service().crash(),
    lambda w: w.service().close(),
    *[lambda w: w.thaw()] * 2,
    _away,
    lambda w: w.lose(),
)
