"""Folders that can run out of room: a tmpfs of their own, or a limit on what a process may write.

Where mounting is allowed (root), the folder is a tmpfs that is shrunk to what it holds: the next
write fails with ENOSPC. Elsewhere the processes are forbidden to write beyond the first bytes of a
file (RLIMIT_FSIZE): they get EFBIG instead, a disk error like any other.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


FILLING_S = 3.0


class Disk:
    """A folder.

    Args:
        folder: made if missing.
        size: bytes that it holds in good times.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "sealtrail", str(folder)],
            capture_output=True,
            check=False,
        )
        self.mounted = done.returncode == 0
        self._limited: dict[int, tuple[int, int]] = {}

    def fill(self, writers: Iterable[int], last_bytes: int = 0) -> str:
        """No more room for these processes; how that was done.

        Args:
            writers: pids.
            last_bytes: for some seconds so many are left, as when somebody else fills the disk.
        """
        if self.mounted:
            if last_bytes:
                self._shrink(last_bytes)
                time.sleep(FILLING_S)
            return f"tmpfs of {self._shrink() >> 10} kB is full"
        for pid in writers:
            self._limited[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            hard = self._limited[pid][1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
        return "file size limit of 1 byte (mounting is not allowed here)"

    def relieve(self) -> None:
        """As much room as before."""
        if self.mounted:
            self._resize(self.size)
        for pid, limits in self._limited.items():
            try:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
            except ProcessLookupError:
                continue  # it has died of it, and its successor has no limit
        self._limited.clear()

    def _shrink(self, left: int = 0) -> int:
        """To what it holds, which its writers may just be changing, and so much more."""
        while True:
            held = os.statvfs(self.folder)
            # Never 0, which means no limit at all.
            used = max((held.f_blocks - held.f_bfree) * held.f_frsize, held.f_frsize) + left
            try:
                self._resize(used)
            except subprocess.CalledProcessError:
                continue
            return used

    def _resize(self, size: int) -> None:
        subprocess.run(
            ["mount", "-o", f"remount,size={size}", str(self.folder)],
            check=True,
            capture_output=True,
        )

    def close(self) -> None:
        """Unmount; what was in it is gone."""
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True, capture_output=True)
            self.mounted = False
