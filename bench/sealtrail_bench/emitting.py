"""What `emit()` costs its caller, against signing each event before it is handed on.

    python -m sealtrail_bench.emitting EVENTS

Two ways, as services do both. In a row: a request's or a batch's events one after the other, so
that only the first finds cold caches; nothing else runs in the process meanwhile. Alone: one call
after a pause, while the SDK's threads encode, sign and send what was emitted before. The variants
take turns. Prints one line of JSON: microseconds of a call at the median and at 99 %.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from typing import TYPE_CHECKING

from sealtrail.event import EventType, ProvenanceEvent
from sealtrail.settings import load
from sealtrail_bench.generator import event
from sealtrail_producer import Trail, keyring
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sealtrail.dsse import Signer

    # n -> the n-th event, emitted or signed.
    Call = Callable[[int], object]

PRODUCER = "bench"
ROW = 64
# So many that batches fill up and are sealed while they last.
APART = 1024
PAUSE_S = 0.0002
FLUSH_S = 120.0


def in_turns(
    calls: Mapping[str, Call], turns: int, length: int, settle: Callable[[], None], pause_s: float
) -> dict[str, list[float]]:
    """Microseconds of each call, sorted, by variant.

    Args:
        calls: variants.
        turns: how often each has its turn, one after the other.
        length: calls in a turn.
        settle: ends what a turn has left to other threads, so that the next variant's turn does not
            pay for it.
        pause_s: after each call.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    for first in range(0, turns * length, length):
        for name, call in calls.items():
            found[name] += _turn(call, range(first, first + length), pause_s)
            settle()
    return {name: sorted(times) for name, times in found.items()}


def _turn(call: Call, numbers: range, pause_s: float) -> list[float]:
    times = []
    for number in numbers:
        began = time.perf_counter_ns()
        call(number)
        times.append((time.perf_counter_ns() - began) / 1000)
        if pause_s:
            time.sleep(pause_s)
    return times


def figures(found: Mapping[str, list[float]], prefix: str = "") -> dict[str, float]:
    """Median and 99 % of each variant's sorted times; the variant `ours` goes without its name."""
    shares = {"p50_us": 50, "p99_us": 99}
    return {
        f"{prefix}{'' if name == 'ours' else name + '_'}{share}": round(
            times[len(times) * percent // 100], 2
        )
        for name, times in found.items()
        for share, percent in shares.items()
    }


def variants(trail: Trail, signer: Signer) -> dict[str, Call]:
    """The same events through the SDK, and each encoded and signed where it is made."""
    rng = random.Random(1)  # noqa: S311 - reproducible input
    made = [event(rng, time.time_ns() // 1000) for _ in range(256)]

    def ours(number: int) -> object:
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

    def signing_each(number: int) -> object:
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

    return {"ours": ours, "signing_each": signing_each}


def main(count: int) -> None:
    """Measure."""
    settings = load(ProducerSettings)
    (signer,) = keyring.open_all(keyring.references(settings, PRODUCER), settings)
    with Trail.from_env(PRODUCER, instance="emitting", pace_bytes=0) as trail:
        calls = variants(trail, signer)

        def settle() -> None:
            trail.flush(FLUSH_S)

        def measured(length: int, pause_s: float) -> dict[str, list[float]]:
            turns = max(count // length, 1)
            in_turns(calls, max(turns // 10, 1), length, settle, pause_s)
            return in_turns(calls, turns, length, settle, pause_s)

        answer = figures(measured(ROW, 0.0))
        answer |= figures(measured(APART, PAUSE_S), "alone_")
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
