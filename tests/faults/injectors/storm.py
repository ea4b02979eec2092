"""Rebalance storms: workers that come and go, each time with new owners for all partitions."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from tests.faults.field import Failed
from tests.faults.injectors.registry import fault

if TYPE_CHECKING:
    import random

    from tests.faults.field import Field

# 10 s is what is promised; a machine with much other work on it may take longer to notice.
LEAVE_S = 30.0
# Who is still starting has not heard of leaving.
START_S = 240.0


@fault("rebalance-storm")
def rebalance_storm(field: Field, rng: random.Random) -> str:
    """Two join and leave, one politely, one not."""
    newcomers = []
    for number in range(2):
        newcomers.append(field.add_worker(f"guest{number}"))
        field.answers(f"guest{number}", START_S)
        time.sleep(rng.uniform(1, 4))
    polite, seconds = rng.randrange(2), 0.0
    for number, guest in enumerate(newcomers):
        how = signal.SIGTERM if number == polite else signal.SIGKILL
        began = time.monotonic()
        status = field.supervisor.dismiss(guest, how, LEAVE_S)
        if how is signal.SIGTERM and status != 0:
            raise Failed(f"a worker that was asked to leave ended with {status}")
        seconds = max(seconds, time.monotonic() - began)
        time.sleep(rng.uniform(0, 2))
    return f"2 workers joined and left, within {seconds:.1f} s"


@fault("worker-term")
def worker_term(field: Field, rng: random.Random) -> str:
    """As a rolling restart does it: each asked to leave, and started anew."""
    seconds = 0.0
    for worker in field.workers:
        field.answers(worker.name, START_S)
        ends, began = len(worker.ends), time.monotonic()
        worker.send(signal.SIGTERM)
        deadline = began + LEAVE_S
        while len(worker.ends) == ends:
            if time.monotonic() > deadline:
                raise Failed(f"{worker.name} did not leave within {LEAVE_S:g} s of SIGTERM")
            time.sleep(0.1)
        if (status := worker.ends[-1].status) != 0:
            raise Failed(f"{worker.name} was asked to leave and ended with {status}")
        seconds = max(seconds, time.monotonic() - began)
        time.sleep(rng.uniform(1, 3))
    return f"{len(field.workers)} one after the other, each within {seconds:.1f} s"
