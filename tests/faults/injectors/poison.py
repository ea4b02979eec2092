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
    times = rng.randint(1, 3)
    if field.kafka_proxy is None:
        # Six megabytes at once are more than the embedded broker keeps of a partition.
        field.little_waits(PATIENCE_S)
        times = 1
    for _ in range(times):
        field.forger.play("garbage")
        time.sleep(rng.uniform(0.2, 1))
    return f"{times} times 13 messages"
