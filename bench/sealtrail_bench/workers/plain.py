"""Everything on, a plain consumer (librdkafka) instead of Faust: the same worker behind it.

It knows no rebalances, watchdog or probes: what Faust costs, it must show by what it lacks.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, TopicPartition

from sealtrail.settings import load
from sealtrail_processor.kafka.client import raw_message
from sealtrail_processor.pipeline import wiring
from sealtrail_processor.pipeline.worker import Worker
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    from concurrent.futures import Future

    from sealtrail_processor.judging.model import RawMessage

# There is but one, for nothing is ever assigned anew.
GENERATION = 0


class Lanes:
    """The worker's lanes, fed by one consumer.

    Args:
        worker: judges and commits.
        settings: sizes of a flush.
        consumer: offsets are committed for feeders that pace themselves.
    """

    def __init__(self, worker: Worker, settings: WorkerSettings, consumer: Consumer) -> None:
        self._worker = worker
        self._settings = settings
        self._consumer = consumer
        count = settings.flush_lanes
        self._waiting: list[deque[tuple[float, int, RawMessage]]] = [deque() for _ in range(count)]
        self._size = [0] * count
        self._flights: list[tuple[Future[Any], dict[int, list[RawMessage]]] | None] = [None] * count

    def add(self, number: int, message: RawMessage) -> None:
        """A message of a partition."""
        lane = number % len(self._waiting)
        self._waiting[lane].append((time.monotonic(), number, message))
        self._size[lane] += len(message.value or b"")

    @property
    def full(self) -> bool:
        """Whether as much waits as two flushes take."""
        return max(self._size) > 2 * self._settings.flush_bytes

    def turn(self) -> None:
        """Acknowledge what is committed, hand over what is ready."""
        for lane, flight in enumerate(self._flights):
            if flight is not None and flight[0].done():
                flight[0].result()
                ends = [
                    TopicPartition(self._settings.topic, number, messages[-1].offset + 1)
                    for number, messages in flight[1].items()
                ]
                self._consumer.commit(offsets=ends, asynchronous=True)
                self._flights[lane] = None
            if self._flights[lane] is None and self._ready(lane):
                groups = self._take(lane)
                self._flights[lane] = (self._worker.in_lane(groups, GENERATION), groups)

    def _ready(self, lane: int) -> bool:
        waiting, settings = self._waiting[lane], self._settings
        if not waiting:
            return False
        full = len(waiting) >= settings.flush_messages or self._size[lane] >= settings.flush_bytes
        return full or time.monotonic() - waiting[0][0] >= settings.flush_wait_s

    def _take(self, lane: int) -> dict[int, list[RawMessage]]:
        groups: dict[int, list[RawMessage]] = {}
        count = size = 0
        waiting, settings = self._waiting[lane], self._settings
        while waiting and count < settings.flush_messages and size < settings.flush_bytes:
            _, number, message = waiting.popleft()
            groups.setdefault(number, []).append(message)
            count += 1
            size += len(message.value or b"")
        self._size[lane] -= size
        return groups


def main() -> None:
    """Consume until SIGTERM."""
    settings = load(WorkerSettings)
    wiring.tune()
    outside = wiring.connect(settings)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    worker = Worker(settings, outside, os._exit)
    consumer = Consumer(
        wiring.kafka_config(settings)
        | {
            "group.id": settings.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
            "queued.max.messages.kbytes": 65_536,
        }
    )
    numbers = range(outside.broker.partitions(settings.topic))
    cursors = worker.in_flush_thread(worker.assign, settings.topic, numbers, GENERATION).result()
    consumer.assign([TopicPartition(settings.topic, n, at) for n, at in cursors.items()])
    worker.start()
    lanes = Lanes(worker, settings, consumer)
    while not stop.is_set():
        for message in consumer.consume(64, timeout=0.005) if not lanes.full else ():
            if message.error() is None:
                lanes.add(message.partition() or 0, raw_message(message))
        lanes.turn()
    worker.stop()
    consumer.close()
    outside.marks.close()


if __name__ == "__main__":
    main()
