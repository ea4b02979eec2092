"""The schema registry is away while a service starts: it knows its ids from before."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from tests.faults.injectors.registry import fault

if TYPE_CHECKING:
    import random

    from tests.faults.field import Field


@fault("registry-away")
def registry_away(field: Field, rng: random.Random) -> str:
    """A service and a worker start without it."""
    service, worker = rng.choice(field.services), rng.choice(field.workers)
    seconds = rng.uniform(4, 8)
    field.kill_server("registry")
    try:
        service.send(signal.SIGKILL)
        worker.send(signal.SIGKILL)
        time.sleep(seconds)
    finally:
        # A Java server takes its time; nobody here waits for it.
        field.start_servers(wait=False)
    return f"{service.name} and {worker.name} started without it, away for {seconds:.1f} s"
