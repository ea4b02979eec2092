"""Feeds events through the SDK, as services would, paced by the pipeline's lag.

Usage: feeder.py PRODUCER INSTANCE[,INSTANCE...] EVENTS [RATE FILE [ends]]. Prints one JSON line:
how many events and links it sent. EVENTS and RATE (a second) are of each instance.
Each event names the event before it of its own instance as its parent, and the newest of the
instance before it in the list (which lies in another partition, or is its own where there is one
instance alone), so that every link has a known answer.
With RATE it sends so many events a second until FILE is there; then the rest as fast as it can, or
(`ends`) no more.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealtrail.event import EntityRef, EventType
from sealtrail_producer import Trail

if TYPE_CHECKING:
    from collections.abc import Sequence


class Pace:
    """When the next event is due.

    Args:
        rate: events a second; 0: as fast as it goes.
        file: when it is there the rest is sent as fast as it goes.
        ends: nothing is sent any more instead.
    """

    def __init__(self, rate: float = 0.0, file: str = "", *, ends: bool = False) -> None:
        self._rate = rate
        self._file = Path(file)
        self._ends = ends
        self._began = time.monotonic()

    def more(self, number: int) -> bool:
        """Wait until it is this number's turn; whether it is to be sent at all."""
        while self._rate and number > self._rate * (time.monotonic() - self._began):
            time.sleep(0.02)
            if self._file.exists():
                self._rate = 0.0
                return not self._ends
        return True


def main(producer: str, instances: Sequence[str], events: int, pace: Pace) -> None:
    """Send so many events of each instance and wait until the brokers have them all."""
    links = sent = 0
    with contextlib.ExitStack() as opened:
        trails = [
            opened.enter_context(Trail.from_env(producer=producer, instance=name))
            for name in instances
        ]
        newest: list[Any] = [None] * len(trails)
        while sent < events and pace.more(sent):
            number, sent = sent, sent + 1
            for at, (name, trail) in enumerate(zip(instances, trails, strict=True)):
                causes = {id(r): r for r in (newest[at], newest[at - 1]) if r is not None}
                thing = f"{name}/{number % 97}"
                newest[at] = trail.emit(
                    "load.step",
                    event_type=EventType.TRANSFORM,
                    inputs=[EntityRef("load", thing, str(number))],
                    outputs=[EntityRef("load", thing, str(number + 1))],
                    parents=[cause.reference for cause in causes.values()],
                    attributes={"number": str(number), "instance": name},
                    backfill=True,
                )
                links += len(causes)
        for trail in trails:
            trail.flush(timeout=900)
    sys.stdout.write(json.dumps({"events": sent * len(trails), "links": links}) + "\n")


if __name__ == "__main__":
    # What the SDK says about brokers that are away goes where the processes' output goes.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s feeder %(message)s")
    paced = sys.argv[4:]
    main(
        sys.argv[1],
        sys.argv[2].split(","),
        int(sys.argv[3]),
        Pace(float(paced[0]), paced[1], ends="ends" in paced) if paced else Pace(),
    )
