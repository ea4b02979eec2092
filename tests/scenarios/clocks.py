"""Clocks of processes that are set while these run (libfaketime)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


def library() -> str:
    """The library that sets clocks.

    Raises:
        RuntimeError: it is not installed.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise RuntimeError("libfaketime is not installed: apt-get install faketime")
    return str(found[0])


def sweep(folder: Path = Path("/dev/shm")) -> None:
    """Remove what the library leaves in shared memory of processes that were killed."""
    for file in folder.glob("*faketime_s*_*"):
        number = file.name.rpartition("_")[2]
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            file.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of whatever is started with its variables.

    file: says how far it is off; made by `variables`.
    """

    file: Path

    def variables(self) -> dict[str, str]:
        """What a process needs to have this clock, which shows the right time."""
        self.set(0)
        return {
            "LD_PRELOAD": library(),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            # Timeouts are the kernel's, as when a real clock is set.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: float) -> None:
        """Put it so far ahead of the machine's (behind it, when negative); seen within a second."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{seconds:+g}")
        fresh.replace(self.file)
