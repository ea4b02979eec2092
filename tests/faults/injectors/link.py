"""The network between Kafka and its clients: connections reset, links that are slow or dead."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.faults.injectors.registry import fault
from tests.faults.proxy import Manners

if TYPE_CHECKING:
    import random

    from tests.faults.field import Field


def during(field: Field, manners: Manners, seconds: float) -> None:
    """Kafka's network behaves so for a while."""
    assert field.kafka_proxy is not None
    field.kafka_proxy.behave(manners)
    try:
        time.sleep(seconds)
    finally:
        field.kafka_proxy.behave(Manners())


@fault("link-reset", needs="real")
def link_reset(field: Field, rng: random.Random) -> str:
    """All connections to the broker, and the next ones, several times."""
    times = rng.randint(2, 6)
    for _ in range(times):
        during(field, Manners(reset=True), rng.uniform(0.05, 0.5))
        time.sleep(rng.uniform(0.1, 1.5))
    return f"{times} times"


@fault("link-slow", needs="real")
def link_slow(field: Field, rng: random.Random) -> str:
    """Answers late, and few bytes a second."""
    seconds, delay = rng.uniform(6, 12), rng.uniform(0.1, 0.8)
    rate = rng.uniform(100e3, 400e3)
    during(field, Manners(delay_s=delay, bytes_per_s=rate), seconds)
    return f"{delay:.1f} s later, {rate / 1e3:.0f} kB/s, for {seconds:.1f} s"


@fault("link-dead", needs="real")
def link_dead(field: Field, rng: random.Random) -> str:
    """Connections stand, and nothing comes through."""
    seconds = rng.uniform(3, 9)
    during(field, Manners(hang=True), seconds)
    return f"for {seconds:.1f} s"
