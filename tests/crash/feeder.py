"""Feeds events through the SDK, as a service would, paced by the pipeline's lag.

Usage: feeder.py PRODUCER INSTANCE EVENTS [RATE HURRY]. Prints one JSON line: how many events and
links it sent.
Each event but an instance's first names the event before it as its parent, so that every link has a
known answer.
With RATE it sends so many events a second until the file HURRY is there, then as fast as it can.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from sealtrail.event import EntityRef, EventType
from sealtrail_producer import Trail


def main(producer: str, instance: str, events: int, rate: float, hurry: Path | None) -> None:
    """Send so many events and wait until the brokers have them all."""
    parents = 0
    began = time.monotonic()
    with Trail.from_env(producer=producer, instance=instance) as trail:
        before = None
        for number in range(events):
            while hurry is not None and number > rate * (time.monotonic() - began):
                time.sleep(0.02)
                if hurry.exists():
                    hurry = None
            receipt = trail.emit(
                "load.step",
                event_type=EventType.TRANSFORM,
                inputs=[EntityRef("load", f"{instance}/{number % 97}", str(number))],
                outputs=[EntityRef("load", f"{instance}/{(number + 1) % 97}", str(number + 1))],
                parents=[] if before is None else [before.reference],
                attributes={"number": str(number), "instance": instance},
                backfill=True,
            )
            parents += before is not None
            before = receipt
        trail.flush(timeout=600)
    sys.stdout.write(json.dumps({"events": events, "links": parents}) + "\n")


if __name__ == "__main__":
    paced = sys.argv[4:6]
    main(
        sys.argv[1],
        sys.argv[2],
        int(sys.argv[3]),
        float(paced[0]) if paced else 0.0,
        Path(paced[1]) if paced else None,
    )
