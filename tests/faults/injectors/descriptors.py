"""No more descriptors: a worker that can open nothing, neither file nor connection."""

from __future__ import annotations

import contextlib
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.injectors.registry import fault
from tests.faults.proxy import Manners

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from tests.faults.field import Field
    from tests.faults.supervisor import Charge


@fault("worker-descriptors")
def worker_descriptors(field: Field, rng: random.Random) -> str:
    """For a while it can open nothing."""
    victim, seconds = rng.choice(field.workers), rng.uniform(4, 10)
    with no_more(field, victim) as how:
        time.sleep(seconds)
    return f"{how} for {seconds:.1f} s"


@contextlib.contextmanager
def no_more(field: Field, victim: Charge) -> Iterator[str]:
    """Its connections are reset as well, so that it wants new ones; yields what was done."""
    pid = victim.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    held = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(held, 16), before[1]))
    try:
        field.store_proxy.behave(Manners(reset=True))
        field.store_proxy.behave(Manners())
        yield f"{victim.name}, {held} open, no more"
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
