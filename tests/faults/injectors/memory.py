"""Too little memory: a worker in a memory cgroup that it outgrows, or under RLIMIT_AS.

Where a cgroup can be made (root, version 1 or 2) the kernel kills the worker when it wants more
than a few pages; elsewhere its allocations fail, and it has to leave by itself.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.injectors.registry import fault

if TYPE_CHECKING:
    import random

    from tests.faults.field import Field
    from tests.faults.supervisor import Charge

ROOMS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)
WAIT_S = 12.0


@fault("worker-memory")
def worker_memory(field: Field, rng: random.Random) -> str:
    """It may take this much more, and no more."""
    victim, more = rng.choice(field.workers), rng.choice((1, 2, 4)) << 20
    ends = len(victim.ends)
    pid = victim.pid
    with contextlib.ExitStack() as room:
        if _enclosed(room, pid, more):
            how = f"cgroup, {more >> 20} MB more"
        else:
            size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * 4096
            resource.prlimit(pid, resource.RLIMIT_AS, (size + more, size + more))
            how = f"RLIMIT_AS, {more >> 20} MB more"
        died = _ended(victim, ends)
    if not died:
        # It made do with what it had; the limit cannot be lifted in all cases, so it goes.
        victim.process.kill()
        _ended(victim, ends)
    return f"{victim.name}: {how}, {'ended by it' if died else 'made do with it'}"


def _enclosed(room: contextlib.ExitStack, pid: int, size: int) -> bool:
    for parent, limit in ROOMS:
        folder = parent / f"sealtrail-faults-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        room.callback(_empty, folder, parent)
        try:
            (folder / limit).write_text(str(size))
            (folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            continue
        return True
    return False


def _empty(folder: Path, parent: Path) -> None:
    for _ in range(100):
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (parent / "cgroup.procs").write_text(pid)
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.05)
        else:
            return


def _ended(victim: Charge, ends: int) -> bool:
    deadline = time.monotonic() + WAIT_S
    while len(victim.ends) == ends:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
