"""Processes that outlive the command that started them: pid files, stale ones, stopping, ports.

A pid alone proves nothing, since the system gives it out again. So a pid file also holds the time
at which its process started (field 22 of /proc/PID/stat): only a process with both is ours, and
only ours is ever signalled.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_POLL_S: Final = 0.05
_LOG_BYTES: Final = 10 << 20
_LISTEN: Final = "0A"  # TCP_LISTEN in /proc/net/tcp


@dataclass(frozen=True)
class ProcessId:
    """A process, told apart from a later one with the same pid.

    Attributes:
        pid: its number.
        started: clock ticks after boot at which it started.
        port: where it was told to listen; 0 if that is not known.
    """

    pid: int
    started: int
    port: int = 0

    def alive(self) -> bool:
        """Whether this very process still runs; one that only waits to be reaped does not."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)  # reaps it if it is a child of ours
        return start_ticks(self.pid) == self.started

    def stop(self, grace_s: float) -> bool:
        """End it: SIGTERM, then SIGKILL.

        Args:
            grace_s: seconds before SIGKILL.

        Returns:
            Whether it went by itself.
        """
        return not self.signal(signal.SIGTERM) or self.ended(grace_s)

    def ended(self, grace_s: float) -> bool:
        """Wait for the end of one that was told to go; kill it if that takes too long.

        Args:
            grace_s: seconds before SIGKILL.

        Returns:
            Whether it went by itself.
        """
        if self._gone_within(grace_s):
            return True
        self.signal(signal.SIGKILL)
        self._gone_within(grace_s)
        return False

    def signal(self, number: signal.Signals) -> bool:
        """Send it a signal; whether it was still there."""
        # A pidfd is bound to the process: no reuse of the pid can slip in between look and kill.
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks after boot; None if it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may hold anything: count from behind it.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def read_pid_file(path: Path) -> ProcessId | None:
    """The process that a pid file names; None if there is no file or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return ProcessId(int(content["pid"]), int(content["started"]), int(content.get("port", 0)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_pid_file(path: Path, process: ProcessId) -> None:
    """Record a process; the file is whole or not there."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(process)), encoding="utf-8")
    fresh.replace(path)


def spawn(
    command: Sequence[str], log: Path, environment: Mapping[str, str], port: int
) -> ProcessId:
    """Start a process that outlives this one, with its output appended to a file.

    Args:
        command: program and arguments.
        log: file for stdout and stderr; an old one that has grown is put aside as `.1`.
        environment: of the process.
        port: where it is told to listen.
    """
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd="/",
            start_new_session=True,  # no signal of the terminal reaches it
        )
    started = start_ticks(process.pid)
    # Popen would warn at its deletion that the child still runs, which is what we want of it.
    process.returncode = 0
    return ProcessId(process.pid, -1 if started is None else started, port)


def port_free(port: int) -> bool:
    """Whether a port on loopback can be bound now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def port_holder(port: int) -> str:
    """Who listens on a port, for a message; empty if the system does not let us know."""
    inodes = _listening_inodes(port)
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for descriptor in (folder / "fd").iterdir():
                if descriptor.readlink().name in inodes:
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    return (
                        f"process {folder.name} ({command.decode(errors='replace').strip()[:80]})"
                    )
    return ""


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text(encoding="utf-8").splitlines()[1:]:
                fields = line.split()
                local, state, inode = fields[1], fields[3], fields[9]
                if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{inode}]")
    return found
