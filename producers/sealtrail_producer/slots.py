"""Which process writes which spool: a folder per instance, held by a lock that dies with it.

The first process of a producer on a host is the instance HOST, one that runs beside it HOST.1, and
so on. A process that starts takes the first folder that nobody holds: that is how a chain is
continued after a crash, and how what a dead process left behind is found and sent.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail_producer.errors import SpoolDiskError, SpoolError
from sealtrail_producer.files import safe_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_SLOTS = 4096


@dataclass(slots=True)
class Slot:
    """A held spool folder and the instance that writes there."""

    instance: str
    folder: Path
    descriptor: int

    def release(self) -> None:
        """Let others have it."""
        # Closing, and not unlocking, is right in a forked child too: the parent keeps its lock.
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def claim(root: Path, producer: str, instance: str) -> Slot:
    """Hold the first free slot of an instance name.

    Args:
        root: folder of all spools.
        producer: service identity.
        instance: name of the first slot.

    Raises:
        SpoolError: no folder can be made, or thousands of processes run.
    """
    base = root / safe_name(producer)
    for number in range(MAX_SLOTS):
        name = instance if number == 0 else f"{instance}.{number}"
        slot = _try(base / safe_name(name), name)
        if slot is not None:
            return slot
    raise SpoolError(f"{MAX_SLOTS} processes hold spools in {base}")


def orphans(root: Path, producer: str) -> Iterator[Slot]:
    """Hold one after another the spools of a producer that nobody holds (on this machine)."""
    base = root / safe_name(producer)
    with contextlib.suppress(OSError):
        for folder in sorted(p for p in base.iterdir() if p.is_dir()):
            slot = _try(folder, folder.name)
            if slot is not None:
                yield slot


def _try(folder: Path, name: str) -> Slot | None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SpoolDiskError(
            f"spool {folder}: {error.strerror}",
            hint="choose another place with SEALTRAIL_SPOOL_DIR",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return Slot(name, folder, descriptor)
