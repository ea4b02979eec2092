"""SIGKILL: of workers, services, broker, store; started anew by whoever looks after them."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from tests.faults.injectors.registry import fault

if TYPE_CHECKING:
    import random

    from tests.faults.field import Field


@fault("worker-kill")
def worker_kill(field: Field, rng: random.Random) -> str:
    """At any moment, up to three times in a row."""
    times = rng.randint(1, 3)
    for _ in range(times):
        victim = rng.choice(field.workers)
        victim.send(signal.SIGKILL)
        time.sleep(rng.uniform(0.5, 4))
    return f"{times} times"


@fault("producer-kill")
def producer_kill(field: Field, rng: random.Random) -> str:
    """What it had in memory is gone; what it was promised is not."""
    victim = rng.choice(field.services)
    victim.send(signal.SIGKILL)
    return victim.name


@fault("store-kill")
def store_kill(field: Field, rng: random.Random) -> str:
    """In the middle of whatever it does."""
    away = rng.uniform(0, 4)
    field.kill_server("store")
    time.sleep(away)
    field.start_servers()
    return f"away for {away:.1f} s"


@fault("broker-kill", needs="real")
def broker_kill(field: Field, rng: random.Random) -> str:
    """What it acknowledged is in its log (the embedded one has none: it is never killed here)."""
    away = rng.uniform(0, 6)
    field.kill_server(field.broker)
    time.sleep(away)
    field.start_servers()
    return f"away for {away:.1f} s and a start"
