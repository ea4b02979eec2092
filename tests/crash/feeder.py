"""Feeds events through the SDK, as services would, paced by the pipeline's lag.

Usage: feeder.py PRODUCER INSTANCE[,INSTANCE...] EVENTS [RATE HURRY]. Prints one JSON line: how many
events and links it sent. EVENTS and RATE (a second) are of each instance.
Each event names the event before it of its own instance as its parent, and the newest of the
instance before it in the list (which lies in another partition, or is its own where there is one
instance alone), so that every link has a known answer.
With RATE it sends so many events a second until the file HURRY is there, then as fast as it can.
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


def main(
    producer: str, instances: Sequence[str], events: int, rate: float, hurry: Path | None
) -> None:
    """Send so many events of each instance and wait until the brokers have them all."""
    links = 0
    began = time.monotonic()
    with contextlib.ExitStack() as opened:
        trails = [
            opened.enter_context(Trail.from_env(producer=producer, instance=name))
            for name in instances
        ]
        newest: list[Any] = [None] * len(trails)
        for number in range(events):
            while hurry is not None and number > rate * (time.monotonic() - began):
                time.sleep(0.02)
                if hurry.exists():
                    hurry = None
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
    sys.stdout.write(json.dumps({"events": events * len(trails), "links": links}) + "\n")


if __name__ == "__main__":
    # What the SDK says about brokers that are away goes where the processes' output goes.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s feeder %(message)s")
    paced = sys.argv[4:6]
    main(
        sys.argv[1],
        sys.argv[2].split(","),
        int(sys.argv[3]),
        float(paced[0]) if paced else 0.0,
        Path(paced[1]) if paced else None,
    )
