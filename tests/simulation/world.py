"""One simulated world: producers, broker, workers and a store, and a schedule for all of them.

Real are the SDK (`service`), the worker's part without Faust and Faust's acknowledgements
(`worker`, `acks`), and the sink with its tokens and containers. Simulated are broker and group,
network, store and clock. There are no threads and no wall clock: what happens is a function of the
tape.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import TYPE_CHECKING

from tests.simulation import crypto
from tests.simulation.broker import SimBroker
from tests.simulation.crew import Crash, Crew
from tests.simulation.crypto import TOPIC
from tests.simulation.engine import SimStore, keys_of_tables
from tests.simulation.group import PARTITIONS, SimGroup
from tests.simulation.network import SimTransport
from tests.simulation.service import Service
from tests.simulation.tape import Tape

from sealtrail_processor.pipeline.holding import Holding
from sealtrail_processor.store.port import StoreUnavailable
from sealtrail_producer import Trail
from sealtrail_producer.fakes import FakeClock, FakeRegistry
from sealtrail_producer.ports import Ports
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sealtrail.event import ParentRef
    from sealtrail_processor.judging.model import Finding, Log

# Producer and instance; two of one producer.
INSTANCES = (("orders", "a"), ("orders", "b"), ("billing", "c"))
PRODUCERS = tuple(sorted({name for name, _ in INSTANCES}))
STEPS = 80
# Turns of 0.2 s in which all must come to rest: time for the watchdog, and for what follows.
ROUNDS = 100
# What fails with the worker, and not by the store.
_OF_THE_WORKER = ("acknowledge", "telling the group")


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
        self.group = SimGroup(tape, self.note, self.ahead)
        stamped = not tape.below(2)
        self.broker = SimBroker(tape, self.tick, self.note, self.group, append_time=stamped)
        # With pacing nothing is lost even when the broker is; without, its losses are allowed.
        self.paced = bool(tape.below(2))
        self.lossy = not self.paced and tape.below(4) == 3
        self.lanes = 1 + tape.below(2)
        self.crew = Crew(self, most=1 + bool(tape.below(3)))
        self.registry = FakeRegistry()
        self.folder = folder
        self.known: list[ParentRef] = []
        self.reported: set[tuple[Log, int]] = set()
        self.services = [Service(self, *names) for names in INSTANCES]
        self.producers = PRODUCERS
        # Messages that were taken away before they were committed.
        self.dropped = 0
        self.may_freeze = True
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

    def fault(self, what: str, *, done: bool) -> None:
        """Something may go wrong before or after what is done."""
        if self.quiet or not self.tape.one_in(40):
            return
        when = "after" if done else "before"
        kind = self.tape.below(5)
        if kind == 0 and what not in _OF_THE_WORKER:
            self.note(f"the store fails {when} {what}")
            raise StoreUnavailable(f"simulated, {when} {what}")
        if kind >= 3 and self.crew.in_hand and len(self.crew.busy) == 1:
            self.note(f"{self.crew.busy[-1].name} waits {when} {what}, while")
            self.meanwhile()
            return
        if kind == 1 and self.crew.in_hand and self.may_freeze:
            self.note(f"{self.crew.busy[-1].name} is frozen {when} {what}")
            self.crew.frozen.append((self.crew.busy[-1], self.crew.in_hand))
        else:
            self.note(f"{self.crew.busy[-1].name} is killed {when} {what}")
        raise Crash

    def meanwhile(self) -> None:
        """A flush takes its time: its partitions are taken away, others go on, it comes back."""
        in_hand, self.crew.in_hand = self.crew.in_hand, ()
        self.group.begin()
        for _ in range(1 + self.tape.below(5)):
            _MEANWHILE[self.tape.below(len(_MEANWHILE))](self)
        self.crew.in_hand = in_hand

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
        self.crew.everybody()

    def service(self) -> Service:
        """Any of them."""
        return self.services[self.tape.below(len(self.services))]

    def ahead(self, number: int, offset: int) -> None:
        """No committed offset without a durable row: the group has taken this one."""
        end = self.store.committed_end(f"cluster-{self.broker.lives}", TOPIC, number)
        if offset > end + 1:
            text = f"AHEAD: the group is at {offset} of partition {number}, the store at {end}"
            self.broken.append(text)

    def lose(self) -> None:
        """The broker loses what it may lose, unless a flush is under way or was left behind.

        What such a flush brings, or has brought, shows after its messages were committed as lost:
        the one thing that doubles (docs/adr/0056). Retention is taken to be longer than a flush.
        """
        if self.crew.frozen:
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
            if not left and not any(worker.holds(number) for worker in self.crew.workers):
                self.broker.drop_head(number, 1 + self.tape.below(4), read)

    def drain(self) -> None:
        """Nothing goes wrong any more: all that was promised must arrive."""
        self.quiet = True
        self.tape = self.broker.tape = self.group.tape = Tape()
        self.broker.away = 0
        self.note("-- quiet from here on")
        for closing in (False, True):
            for _ in range(ROUNDS):
                self.work()
                self.crew.thaw()
                self.broker.deliver_late()
                for _ in range(ROUNDS):
                    if not self.crew.everybody():
                        break
                self.crew.watch()
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
        at = {n: w.partitions[n].next_offset for w in self.crew.workers if w.flows for n in w.owned}
        ends = {number: len(self.broker.log(number)) for number in range(PARTITIONS)}
        read = at == ends
        return (
            read
            and not self.broker.late
            and not self.crew.frozen
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
    *[lambda w: w.crew.consume(w.tape.below(PARTITIONS))] * 4,
    *[lambda w: w.crew.consume(*range(PARTITIONS))] * 3,
    *[_advance] * 2,
    lambda w: w.broker.deliver_late(),
    lambda w: w.crew.kill(),
    *[lambda w: w.crew.commit()] * 4,
    *[lambda w: w.group.begin()] * 2,
    lambda w: w.group.complete(),
    lambda w: w.group.again(),
    lambda w: w.service().crash(),
    lambda w: w.service().close(),
    *[lambda w: w.crew.thaw()] * 2,
    _away,
    lambda w: w.lose(),
)

# While a flush takes its time: the lock is held, nobody else of that process can do anything.
_MEANWHILE: tuple[Callable[[World], object], ...] = (
    lambda w: w.group.complete(),
    lambda w: w.crew.commit(),
    *[lambda w: w.crew.most > 1 and w.crew.consume(*range(PARTITIONS))] * 2,
    lambda w: w.group.begin(),
)
