"""Too little memory: a worker in a memory cgroup that it outgrows, or under RLIMIT_AS.

Where a cgroup can be made (root, version 1 or 2) the kernel kills the worker when it wants more
than a few pages; elsewhere its allocations fail, and it has to leave by itself. A worker under
steady load lives on what it has, so that honest batches come which take more.
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
    from tests.scenarios.scene import Scene

# Folder, the file that takes the limit, and the one that tells of kills.
ROOMS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.oom_control"),
    (Path("/sys/fs/cgroup"), "memory.max", "memory.events"),
)
WAIT_S = 20.0
# A batch of some 1.5 MB in each partition: judging and writing it takes several times as much.
LARGE, LARGE_EVENTS, PARTITIONS = "large", 6_000, 4


@fault("worker-memory")
def worker_memory(field: Field, rng: random.Random) -> str:
    """At any moment."""
    return squeezed(field, rng.choice(field.workers), rng.choice((1, 2, 4)) << 20, WAIT_S)


def squeezed(field: Field, victim: Charge, more: int, wait_s: float) -> str:
    """Give a worker this much more memory, and no more; and then it has to have more.

    Args:
        field: where.
        victim: the worker.
        more: bytes.
        wait_s: how long it may take until little waits, and again until it is ended by it.
    """
    calm = field.little_waits(wait_s) and field.works(victim.name)
    ends = len(victim.ends)
    pid = victim.pid
    with contextlib.ExitStack() as room:
        told = _enclosed(room, pid, more)
        if told is not None:
            how = f"cgroup, {more >> 20} MB more"
        else:
            size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * 4096
            resource.prlimit(pid, resource.RLIMIT_AS, (size + more, size + more))
            how = f"RLIMIT_AS, {more >> 20} MB more"
        if calm:
            field.forger.send(LARGE, large)
        died = _ended(victim, ends, wait_s)
        if died and told is not None and not _kills(told):
            return f"{victim.name}: {how}, ended with {victim.ends[ends].status} before it"
    if not died:
        # It made do with what it had; the limit cannot be lifted in all cases, so it goes.
        victim.process.kill()
        _ended(victim, ends, wait_s)
        return f"{victim.name}: {how}, made do with it"
    return f"{victim.name}: {how}, ended by it with {victim.ends[ends].status}"


def large(scene: Scene) -> None:
    """Send an honest batch in each partition that takes more memory than usual ones."""
    for partition in range(PARTITIONS):
        chain = scene.chain("orders", partition, instance=f"{LARGE}-{os.urandom(4).hex()}")
        scene.accept(chain.make(LARGE_EVENTS))


def _kills(told: Path) -> int:
    """How many processes the kernel has killed for want of memory in a cgroup."""
    counts = dict(line.split() for line in told.read_text().splitlines())
    return int(counts["oom_kill"])


def _enclosed(room: contextlib.ExitStack, pid: int, size: int) -> Path | None:
    """Put a process into a cgroup of its own; the file that tells of kills, None if none can be."""
    for parent, limit, told in ROOMS:
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
        return folder / told
    return None


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


def _ended(victim: Charge, ends: int, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while len(victim.ends) == ends:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
