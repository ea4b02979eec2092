"""Clocks that are set: a service's must be found, a worker's must change nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.faults.field import WRONG
from tests.faults.injectors.registry import fault

if TYPE_CHECKING:
    import random

    from tests.faults.field import Field


@fault("producer-clock")
def producer_clock(field: Field, rng: random.Random) -> str:
    """Forward or back and home again: AHEAD, REGRESSION and CAUSALITY of that chain alone."""
    jump, seconds = rng.choice((-1, 1)) * rng.uniform(20, 600), rng.uniform(4, 8)
    field.clock_jumps.append((field.chain_of(WRONG), jump))
    field.set_clock(WRONG, jump)
    try:
        time.sleep(seconds)
    finally:
        field.set_clock(WRONG, 0)
    # Until it has seen that it is home: a jump that is not noticed in between is another jump.
    time.sleep(2.5)
    return f"{jump:+.0f} s for {seconds:.1f} s"


@fault("worker-clock")
def worker_clock(field: Field, rng: random.Random) -> str:
    """An hour forward or back: no window expires, nobody is called late or silent."""
    jump, seconds = rng.choice((-3600, 3600)), rng.uniform(6, 12)
    field.set_clock("w1", jump)
    try:
        time.sleep(seconds)
    finally:
        field.set_clock("w1", 0)
    return f"{jump:+d} s for {seconds:.1f} s"
