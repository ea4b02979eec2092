"""A worker that kills itself at a named point of a flush (tests/crash/worker.py)."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from tests.crash.worker import POINTS
from tests.faults.injectors.registry import fault

if TYPE_CHECKING:
    import random

    from tests.faults.field import Field

WAIT_S = 30.0


@fault("crash-in-flush")
def crash_in_flush(field: Field, rng: random.Random) -> str:
    """It joins, is given partitions, and dies between two inserts."""
    point = rng.choice(POINTS)
    marker = field.folder / f"crashed-{point}"
    marker.unlink(missing_ok=True)
    guest = field.add_worker("guest", point, str(marker))
    guest.wanted = False
    deadline = time.monotonic() + WAIT_S
    while guest.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    field.supervisor.dismiss(guest, signal.SIGKILL, 5)
    return point if marker.exists() else f"{point}: not reached, killed elsewhere"
