"""Room on the disk: the store stops writing before there is none.

This build of the engine takes no notice of writes that fail for want of room (ADR 0072): an insert
is acknowledged, a merge replaces its sources, and there is nothing in the files. So the disk must
not become full under its hands: below a margin that running inserts cannot use up, inserts are
refused as a server refuses them (NOT_ENOUGH_SPACE: clients try again), and merges are ended.
"""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sealtrail_local.store.errors import NOT_ENOUGH_SPACE, Refused

_LOOK_S: Final = 0.1
# Twice the margin before merges go on, so that what they write does not end them at once.
_AGAIN: Final = 2

_log = logging.getLogger(__name__)


def free_bytes(folder: Path) -> int:
    """What the disk of a folder has left for us."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


class Room:
    """Watches the disk of a folder from a thread of its own.

    Args:
        folder: on the disk.
        margin: bytes that must stay free; 0 watches nothing.
        merges: lets merges run (True) or ends them (False); may raise RuntimeError.
        free: bytes that are left.
    """

    def __init__(
        self,
        folder: Path,
        margin: int,
        merges: Callable[[bool], None],
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._folder = folder
        self._margin = margin
        self._merges = merges
        self._free = free
        self._merging = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="room", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        if self._margin:
            self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def require(self) -> None:
        """See that there is room for an insert.

        Raises:
            Refused: there is not.
        """
        free = self._free(self._folder)
        if free < self._margin:
            raise Refused(
                NOT_ENOUGH_SPACE,
                f"Only {free >> 20} MiB are free on the disk of the store, which keeps "
                f"{self._margin >> 20} MiB free",
            )

    def look(self) -> None:
        """Take one look, and end merges or let them go on."""
        free = self._free(self._folder)
        wanted = free >= self._margin * (1 if self._merging else _AGAIN)
        if wanted != self._merging:
            self._merges(wanted)
            self._merging = wanted
            said = "merges go on" if wanted else "no inserts and no merges until there is room"
            _log.warning("%d MiB free on the disk of the store: %s", free >> 20, said)

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_S):
            try:
                self.look()
            except (RuntimeError, OSError):
                _log.exception("the disk of the store cannot be watched")
