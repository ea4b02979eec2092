"""A worker that kills itself as it is told to; without arguments an ordinary one.

Usage: worker.py [POINT MARKER | POISON TEXT | deaf MARKER | unheard]. Points of a flush, once:
before-events (when the flush before was acknowledged),
after-events (between a2 and a1), between-tables (within a1), before-commit (between a1 and b),
after-commit (before the acknowledgement). MARKER is a file that is made right before the kill, so
that a later worker with the same arguments lives.
Poisons, each time that a message holds TEXT: examined (a segmentation fault in a decoder),
raised (an exception that nobody expects), written (with all that is in the flush, at the store).
Deaf: while MARKER is there it fetches nothing, as a member that its group's coordinator has
forgotten and that believes in its assignment: heartbeats, a loop that turns, and no message.
Unheard: its alerts and copies go to brokers that nobody can reach, and are given up soon.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from sealtrail_processor.judging import judge
from sealtrail_processor.kafka.publisher import KafkaPublisher
from sealtrail_processor.pipeline import wiring
from sealtrail_processor.pipeline.marks import at_once
from sealtrail_processor.store.sink import ClickHouseSink

POINTS = ("before-events", "after-events", "between-tables", "before-commit", "after-commit")
POISONS = ("examined", "raised", "written")
# So that there is something committed before, to be rebuilt.
FLUSHES_BEFORE = 2
NOWHERE, GIVEN_UP_S = "127.0.0.1:1", 10.0


class CrashingStore:
    """A store that ends the process at one of its inserts."""

    def __init__(self, store: Any, point: str, marker: Path) -> None:
        self._store = store
        self._point = point
        self._marker = marker
        self._commits = 0
        self.database = store.database

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def insert_avro(self, *args: Any) -> Any:
        """The insert of (a2)."""
        self._at("before-events")
        result = self._store.insert_avro(*args)
        self._at("after-events")
        return result

    def insert(self, table: str, *args: Any) -> Any:
        """The inserts of (a1) and (b)."""
        if table != "commits":
            result = self._store.insert(table, *args)
            if table == "dispositions":
                self._at("between-tables")
            return result
        self._at("before-commit")
        result = self._store.insert(table, *args)
        self._at("after-commit")
        self._commits += 1
        return result

    def _at(self, point: str) -> None:
        if point == self._point and self._commits >= FLUSHES_BEFORE and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class PoisonedSink:
    """A sink that dies of a message, whatever else the flush holds, unless it was refused."""

    def __init__(self, sink: Any, text: bytes) -> None:
        self._sink = sink
        self._text = text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    def write(self, flush: Any) -> None:
        """Sink.write."""
        self._die_of(flush)
        self._sink.write(flush)

    def write_together(self, flushes: Any) -> None:
        """Sink.write_together."""
        for flush in flushes:
            self._die_of(flush)
        self._sink.write_together(flushes)

    def _die_of(self, flush: Any) -> None:
        if any(j.refused is None and self._text in (j.message.value or b"") for j in flush.judged):
            os.kill(os.getpid(), signal.SIGKILL)


def poison(kind: str, text: bytes) -> None:
    """Run a worker that one message kills."""
    if kind == "written":
        wiring.run(lambda o: dataclasses.replace(o, sink=PoisonedSink(o.sink, text)))
        return
    real = judge.examine

    def examine(message: Any, *args: Any) -> Any:
        if text in (message.value or b""):
            if kind == "raised":
                raise RuntimeError(f"no step foresees {text!r}")
            # In this thread, as a fault in C would: sent to the process it may come too late.
            signal.raise_signal(signal.SIGSEGV)
        return real(message, *args)

    wiring.run(lambda o: dataclasses.replace(o, examine=examine))


def deaf(marker: Path) -> None:
    """Run a worker whose consumer gets nothing while the marker is there."""
    fetch: Any = AIOKafkaConsumerThread.getmany

    async def getmany(self: Any, *args: Any, **kwargs: Any) -> Any:
        if marker.exists():  # noqa: ASYNC240 - a look at a folder in memory
            await asyncio.sleep(0.5)
            return {}
        return await fetch(self, *args, **kwargs)

    # Everything else of it goes on: heartbeats, commits, the loop.
    setattr(AIOKafkaConsumerThread, "getmany", getmany)  # noqa: B010 - a method that is replaced
    wiring.run()


def unheard() -> None:
    """Run a worker that publishes to nobody."""
    nowhere = {"bootstrap.servers": NOWHERE}
    wiring.run(
        lambda o: dataclasses.replace(o, publisher=KafkaPublisher(nowhere, timeout_s=GIVEN_UP_S))
    )


def main(args: list[str]) -> None:
    """Run a worker with a sink that may crash."""
    if not args:
        wiring.run()
        return
    if args[0] in POISONS:
        poison(args[0], args[1].encode())
        return
    if args[0] == "deaf":
        deaf(Path(args[1]))
        return
    if args[0] == "unheard":
        unheard()
        return
    point, marker = args[0], Path(args[1])
    if point not in POINTS:
        sys.exit(f"no such point: {point}")

    def crashing(outside: Any) -> Any:
        store = CrashingStore(outside.store, point, marker)
        sink = ClickHouseSink(store, secrets.randbits, at_once=at_once(outside.marks.own))
        return dataclasses.replace(outside, sink=sink)

    wiring.run(crashing)


if __name__ == "__main__":
    main(sys.argv[1:])
