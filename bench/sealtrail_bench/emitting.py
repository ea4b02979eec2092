"""What `emit()` costs its caller, against signing each event before it is handed on.

    python -m sealtrail_bench.emitting EVENTS

Prints one line of JSON: microseconds at the median and at 99 %, for both.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from typing import TYPE_CHECKING, Any

from sealtrail.event import EventType, ProvenanceEvent
from sealtrail.settings import load
from sealtrail_bench.generator import event
from sealtrail_producer import Trail, keyring
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

PRODUCER = "bench"
PAUSE_S = 0.0002


def timed(call: Callable[[int], Any], count: int) -> list[float]:
    """Microseconds of each call, sorted. Paced: a queue that is full would be measured instead."""
    found = []
    for number in range(count):
        began = time.perf_counter_ns()
        call(number)
        found.append((time.perf_counter_ns() - began) / 1000)
        time.sleep(PAUSE_S)
    return sorted(found)


def main(count: int) -> None:
    """Measure."""
    rng = random.Random(1)  # noqa: S311 - reproducible input
    made = [event(rng, time.time_ns() // 1000) for _ in range(256)]
    settings = load(ProducerSettings)
    (signer,) = keyring.open_all(keyring.references(settings, PRODUCER), settings)

    def alone(number: int) -> Any:
        example = made[number % 256]
        data = ProvenanceEvent(
            occurred_at=time.time_ns() // 1000,
            salt=os.urandom(16),
            event_type=EventType.TRANSFORM,
            activity=example.activity,
            actor=example.actor,
            run_id=example.run_id,
            inputs=example.inputs,
            outputs=example.outputs,
            attributes=example.attributes,
        ).encode()
        return signer.sign(data) + data

    with Trail.from_env(PRODUCER, instance="emitting", pace_bytes=0) as trail:

        def ours(number: int) -> Any:
            example = made[number % 256]
            return trail.emit(
                example.activity,
                event_type=EventType.TRANSFORM,
                actor=example.actor,
                run_id=example.run_id,
                inputs=example.inputs,
                outputs=example.outputs,
                attributes=example.attributes,
            )

        timed(ours, count // 10)
        mine = timed(ours, count)
        trail.flush(timeout=120)
    timed(alone, count // 10)
    each = timed(alone, count)
    figures = {
        "p50_us": mine[count // 2],
        "p99_us": mine[count * 99 // 100],
        "signing_each_p50_us": each[count // 2],
        "signing_each_p99_us": each[count * 99 // 100],
    }
    sys.stdout.write(json.dumps({k: round(v, 2) for k, v in figures.items()}) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
