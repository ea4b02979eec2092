"""The processes of a demo: commands that end, services that stay, and an end to all of them.

- Each service gets a session of its own: Ctrl-C reaches the demo alone, which
  then stops them in the reverse order of their start.
- What they write goes to a file each; when one fails, the end of it is shown.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from sealtrail.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# This interpreter, whatever PATH says.
SEALTRAIL = (sys.executable, "-c", "from sealtrail.cli import main; main()")
STOP_S = 15.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended."""

    code: int
    out: str


@dataclass(slots=True)
class Stage:
    """Where the demo happens.

    Args:
        environment: variables of all processes.
        logs: folder for what they write.
    """

    environment: Mapping[str, str]
    logs: Path
    running: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(
        self, *arguments: str, codes: tuple[int, ...] = (0,), timeout_s: float = 120.0
    ) -> Finished:
        """Run a `sealtrail` command to its end.

        Raises:
            UnavailableError: it ended with another code, or not in time.
        """
        started = self.start(arguments[0], *arguments, stdout=subprocess.PIPE)
        try:
            out, _ = started.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise self._failed(arguments, f"has not ended after {timeout_s:.0f} s") from None
        finally:
            # What `local up` leaves running is in its group: only an unfinished command is ended.
            if started.poll() is None:
                self._end(started)
            self.running = [(n, p) for n, p in self.running if p is not started]
        if started.returncode not in codes:
            raise self._failed(arguments, f"ended with code {started.returncode}")
        return Finished(started.returncode, out.decode(errors="replace"))

    def ask(self, *arguments: str, codes: tuple[int, ...] = (0,), timeout_s: float = 120.0) -> Any:
        """Run a command with --json and read its answer."""
        out = self.run(*arguments, "--json", codes=codes, timeout_s=timeout_s).out
        try:
            return json.loads(out.strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise self._failed(arguments, "printed no JSON") from None

    def start(
        self, name: str, *arguments: str, stdin: Any = subprocess.DEVNULL, stdout: Any = None
    ) -> subprocess.Popen[bytes]:
        """Start a `sealtrail` command that stays; it is stopped with the stage."""
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                [*SEALTRAIL, *arguments],
                env=dict(self.environment),
                stdin=stdin,
                stdout=log if stdout is None else stdout,
                stderr=log,
                start_new_session=True,
            )
        self.running.append((name, process))
        return process

    def check(self) -> None:
        """See that what stays is still there.

        Raises:
            UnavailableError: a process died.
        """
        for name, process in self.running:
            if process.poll() not in (None, 0):
                raise self._failed((name,), f"ended with code {process.returncode}")

    def stop(self) -> None:
        """End every process that was started, the last one first."""
        while self.running:
            _, process = self.running.pop()
            self._end(process)

    def log(self, name: str) -> Path:
        """Where a process writes what it has to say."""
        return self.logs / f"{name}.log"

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        # The whole session: what the process itself started must not outlive it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _failed(self, arguments: tuple[str, ...], what: str) -> UnavailableError:
        path = self.log(arguments[0])
        tail = ""
        with suppress(OSError):
            lines = [x for x in path.read_text(errors="replace").splitlines() if x.strip()]
            tail = lines[-1] if lines else ""
        command = " ".join(("sealtrail", *arguments))
        return UnavailableError(f"`{command}` {what}: {tail}", hint=f"the whole of it: {path}")


def wait_until(done: Any, check: Any, deadline_s: float, pause_s: float = 0.2) -> bool:
    """Ask `done` again and again; whether it came true in time.

    Args:
        done: what is waited for.
        check: called between; raises when waiting has become pointless.
        deadline_s: seconds without success.
        pause_s: seconds between two questions.
    """
    end = time.monotonic() + deadline_s
    while not done():
        if time.monotonic() > end:
            return False
        check()
        time.sleep(pause_s)
    return True
