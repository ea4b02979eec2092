"""A process that sends a tape as fast as its consumers take it.

    python -m sealtrail_bench.feed TAPE TOPIC GROUP WINDOW RATE SECONDS [times]

WINDOW bytes a partition may wait for the group (the embedded broker keeps 5 MB a partition and
drops what is older, read or not). RATE messages a second at most, 0 for as many as are taken;
nothing more is sent after SECONDS or SIGTERM. Prints one line of JSON when the brokers have all:
what was sent (`tape.Total`), seconds, for each partition the offset after its last message, and
with `times` for each message its partition, offset, and when it was handed to the client.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealtrail.errors import UnavailableError
from sealtrail.settings import load
from sealtrail_bench import tape
from sealtrail_producer import kafka
from sealtrail_producer.pacing import Pacer
from sealtrail_producer.ports import BusyError, Delivery, Message, SystemClock
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sealtrail_bench.generator import Made

GIVE_UP_S = 120.0


class Feeder:
    """Sends messages in order, each once.

    Args:
        transport: to the brokers.
        pacer: says what may be sent now.
    """

    def __init__(self, transport: kafka.KafkaTransport, pacer: Pacer) -> None:
        self._transport = transport
        self._pacer = pacer
        self._under_way = 0
        self._failed = ""
        self._stop = threading.Event()
        self.ends: dict[int, int] = {}
        self.sent = tape.Total()
        self.times: list[tuple[int, int, float]] = []

    def stop(self) -> None:
        """Send nothing more."""
        self._stop.set()

    def send(self, messages: Iterator[Made], rate: float, seconds: float) -> None:
        """Send all, or what there is time for.

        Raises:
            UnavailableError: the brokers refuse a message, or nobody takes what was sent.
        """
        began = time.monotonic()
        for index, made in enumerate(messages):
            message = made.message
            if self._stop.is_set() or time.monotonic() - began > seconds:
                break
            while rate and index > rate * (time.monotonic() - began):
                self._turn(0.002)
            moved = time.monotonic()
            while not self._pacer.admits(message) and not self._stop.is_set():
                self._turn(0.002)
                if time.monotonic() - moved > GIVE_UP_S:
                    raise UnavailableError("nothing was consumed for two minutes")
            if self._stop.is_set():
                break
            self._send(index, message)
            self.sent.add(made)
        while self._under_way:
            self._turn(0.05)

    def _send(self, index: int, message: Message) -> None:
        handed = time.time()

        def done(delivery: Delivery) -> None:
            self._under_way -= 1
            if delivery.error:
                self._failed = delivery.error
                return
            self._pacer.delivered(index, message, delivery.offset)
            self.times.append((message.partition, delivery.offset, handed))
            self.ends[message.partition] = delivery.offset + 1

        self._pacer.sent(index, message)
        self._under_way += 1
        while True:
            try:
                self._transport.send(message, done)
                break
            except BusyError:
                self._turn(0.01)
        self._transport.poll(0)

    def _turn(self, wait_s: float) -> None:
        self._transport.poll(wait_s)
        self._pacer.refresh()
        if self._failed:
            raise UnavailableError(f"a message was not taken: {self._failed}")


def main(  # noqa: PLR0913, PLR0917 - the arguments of the command line
    file: str, topic: str, group: str, window: str, rate: str, seconds: str, *more: str
) -> None:
    """Send a tape."""
    settings = load(ProducerSettings)
    properties = kafka.config(settings, "bench")
    offsets = kafka.KafkaGroup(properties, group)
    feeder = Feeder(
        kafka.KafkaTransport(properties | {"linger.ms": 1}),
        Pacer(lambda: offsets, int(window), SystemClock()),
    )
    signal.signal(signal.SIGTERM, lambda *_: feeder.stop())
    began = time.time()
    feeder.send(tape.read(Path(file), topic), float(rate), float(seconds))
    # Python takes its handlers back before it ends: asked to stop now, it would look killed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    result: dict[str, Any] = {
        "seconds": time.time() - began,
        "ends": feeder.ends,
        **asdict(feeder.sent),
    }
    if "times" in more:
        result["times"] = feeder.times
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
