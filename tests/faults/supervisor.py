"""Starts what has ended anew, as a supervisor of production would, and writes down how it ended."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    import subprocess
    from collections.abc import Callable

CHECK_S = 0.25
# What ends at once is not started anew in a tight loop.
PAUSE_S = 1.0


# Of a log, for what a process said last.
TAIL_BYTES = 64 << 10
TRACEBACK = re.compile(r"^Traceback .*\n(?:[ \t].*\n)+(\S.*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended.

    Attributes:
        status: its exit status, negative for signals.
        at: when that was seen, by time.monotonic().
        words: the last error that it logged, else its last line.
    """

    status: int
    at: float
    words: str


@dataclass
class Charge:
    """A process that must run.

    Attributes:
        name: of its role.
        start: starts one.
        log: where it writes to, if to a file of its own.
        process: the one that runs now.
        ends: how those before it ended.
        peak_kb: highest resident memory that was seen.
        wanted: whether it is started anew.
    """

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    log: Path | None = None
    process: subprocess.Popen[bytes] = field(init=False)
    ends: list[End] = field(default_factory=list)
    peak_kb: int = 0
    wanted: bool = True
    _since: float = 0
    _said: int = 0

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start one."""
        self._said = self.log.stat().st_size if self.log is not None and self.log.exists() else 0
        self.process, self._since = self.start(), time.monotonic()

    def ended(self, status: int) -> None:
        """Write down how the process ended."""
        self.ends.append(End(status, time.monotonic(), self._last_words()))

    def _last_words(self) -> str:
        if self.log is None:
            return ""
        with self.log.open("rb") as file:
            file.seek(max(self._said, self.log.stat().st_size - TAIL_BYTES))
            return last_words(file.read().decode(errors="replace"))

    def age(self) -> float:
        """Seconds since the one that runs now was started."""
        return time.monotonic() - self._since

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def resident_kb(self) -> int:
        """Resident memory, 0 if it has ended."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0
        return pages * 4


class Supervisor:
    """Looks after charges from a thread of its own."""

    def __init__(self) -> None:
        self.charges: list[Charge] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(
        self, name: str, start: Callable[[], subprocess.Popen[bytes]], log: Path | None = None
    ) -> Charge:
        """Start a process and look after it; log: its own, to tell why it ended."""
        charge = Charge(name, start, log)
        with self._lock:
            self.charges.append(charge)
        return charge

    def dismiss(self, charge: Charge, number: signal.Signals | None, timeout_s: float) -> int:
        """Let a process end for good; its exit status. None: it was told already."""
        with self._lock:
            charge.wanted = False
        if number is not None:
            charge.send(number)
        end = time.monotonic() + timeout_s
        while charge.process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        if charge.process.poll() is None:
            charge.process.kill()
        status = charge.process.wait()
        with self._lock:
            if charge in self.charges:
                charge.ended(status)
                self.charges.remove(charge)
        return status

    def close(self) -> None:
        """Start nothing any more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(CHECK_S):
            with self._lock:
                for charge in self.charges:
                    self._look(charge)

    @staticmethod
    def _look(charge: Charge) -> None:
        charge.peak_kb = max(charge.peak_kb, charge.resident_kb())
        status = charge.process.poll()
        if status is not None and charge.wanted and charge.age() > PAUSE_S:
            charge.ended(status)
            charge.begin()


def last_words(log: str) -> str:
    """The last error in a log of JSON lines, and what was raised last; else its last line."""
    said = raised = ""
    lines = [line.strip() for line in log.split("\n") if line.strip()]
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in {"error", "critical"}:
            said = str(entry.get("event"))
            raised = str(entry.get("exception", "")).strip().split("\n")[-1] or raised
    # Printed by whatever ended the process.
    for printed in TRACEBACK.findall(log):
        raised = printed
    return ": ".join(filter(None, (said, raised))) or (lines[-1] if lines else "")
