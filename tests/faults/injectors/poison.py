"""Poison: messages that would end, stop or bloat a careless consumer, many at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.faults.injectors.registry import fault

if TYPE_CHECKING:
    import random

    from tests.faults.field import Field

PATIENCE_S = 20.0


@fault("poison")
def poison(field: Field, rng: random.Random) -> str:
    """Garbage, counts of 10^8, 3 MB of noise, nothing at all, in all partitions' way."""
    times, played = rng.randint(1, 3), 0
    for _ in range(times):
        pause = rng.uniform(0.2, 1)
        # Nine megabytes at once are more than the embedded broker keeps of a partition.
        if not played or field.kafka_proxy is not None or field.little_waits(PATIENCE_S):
            field.forger.play("garbage")
            played += 1
        time.sleep(pause)
    return f"{played} times 13 messages"
