"""A whole pipeline of separate processes, for tests that kill some: stack, workers, feeders.

Everything is driven from outside, as an operator would: the `sealtrail` command, signals, SQL over
HTTP. Only processes
that were started here are ever signalled.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from tests.conftest import Stack, real_variables, stack_variables
from tests.scenarios import clocks, conservation

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).resolve().parent
PRODUCER = "load"
NOTHING: dict[str, str] = {}


class Failed(RuntimeError):  # noqa: N818 - reads as what happened
    """The scenario did not go as it must."""


class Pipeline:
    """A stack with its store migrated and a producer's key registered.

    Args:
        settings: further SEALTRAIL_* variables.
        brokers: real ones (Apache Kafka, with Apicurio Registry); 0 takes the embedded stack.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, brokers: int = 0) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sealtrail-crash-"))
        stack = real_variables(self.folder, brokers) if brokers else stack_variables(self.folder)
        self.env = stack | {"SEALTRAIL_HEALTH_PORT": "0", **(settings or {})}
        # Its processes, to be killed, frozen and started again by name.
        self.stack = Stack(self.env, self.folder)
        self.log: IO[bytes] = (self.folder / "processes.log").open("ab")
        self.started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self.sealtrail("local", "up")
            self.sealtrail("store", "migrate")
            self.sealtrail("keys", "setup-dev", "--producer", PRODUCER)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        subprocess.run(
            self._command("local", "down"),
            env=self.env,
            stdout=self.log,
            stderr=self.log,
            check=False,
        )
        self.log.close()
        if exc and exc[0] is not None:
            sys.stderr.write((self.folder / "processes.log").read_text(errors="replace")[-6000:])
        self.remove()

    def remove(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        clocks.sweep()

    def _command(self, *args: str) -> list[str]:
        return [str(Path(sys.executable).parent / "sealtrail"), *args]

    def call(
        self, *args: str, env: Mapping[str, str] = NOTHING
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, whatever that is."""
        return subprocess.run(
            self._command(*args),
            env=self.env | dict(env),
            capture_output=True,
            text=True,
            check=False,
        )

    def sealtrail(self, *args: str, expect: int = 0) -> str:
        """Run the command; its standard output."""
        done = self.call(*args)
        if done.returncode != expect:
            printed = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            raise Failed(f"sealtrail {' '.join(args)}: exit {done.returncode}\n{printed}")
        return done.stdout

    def spawn(
        self,
        command: list[str],
        stdout: IO[bytes] | int,
        settings: Mapping[str, str] = NOTHING,
        env: dict[str, str] = NOTHING,
        stderr: IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process that ends with this pipeline at the latest.

        Args:
            command: program and arguments.
            stdout: where its output goes.
            settings: of its own, by field name.
            env: further variables, by their own names.
            stderr: a log of its own in place of that of all processes.
        """
        env = self.env | {f"SEALTRAIL_{name.upper()}": v for name, v in settings.items()} | env
        process = subprocess.Popen(command, env=env, stdout=stdout, stderr=stderr or self.log)
        self.started.append(process)
        return process

    def worker(self, *args: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start a worker.

        Args:
            args: how it kills itself (see worker.py).
            settings: its own, by field name.
        """
        return self.spawn([sys.executable, str(HERE / "worker.py"), *args], self.log, settings)

    def crashing(self, point: str) -> subprocess.Popen[bytes]:
        """Start a worker that kills itself once at a point of a flush."""
        return self.worker(point, str(self.folder / f"crashed-{point}"))

    def feeder(
        self,
        instances: str,
        events: int,
        rate: float = 0,
        hurry: Path | None = None,
        enough: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process that sends events (feeder.py); its result is a JSON line on stdout."""
        command = [sys.executable, str(HERE / "feeder.py"), PRODUCER, instances, str(events)]
        if hurry is not None:
            command += [str(rate), str(hurry)]
        if enough is not None:
            command += [str(rate), str(enough), "ends"]
        return self.spawn(command, subprocess.PIPE)

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Ask the store as its writer; rows as dictionaries."""
        return conservation.query(conservation.variables(self.folder), query)

    def number(self, query: str) -> int:
        """The one number that a query answers."""
        return int(next(iter(self.sql(query)[0].values())))

    def committed(self) -> int:
        """Events that readers can see."""
        return self.number("SELECT count() FROM provenance.events")

    def wait_for(
        self, what: str, events: int, timeout_s: float, alive: subprocess.Popen[bytes]
    ) -> float:
        """Wait until so many events are visible; seconds that it took."""
        began = time.monotonic()
        while (now := self.committed()) < events:
            if alive.poll() is not None:
                raise Failed(f"{what}: the worker ended with {alive.returncode}")
            if time.monotonic() - began > timeout_s:
                raise Failed(f"{what}: {now} of {events} events after {timeout_s} s")
            time.sleep(0.5)
        return time.monotonic() - began

    def wait_for_all(self, events: int, timeout_s: float, alive: subprocess.Popen[bytes]) -> float:
        """Wait until so many events are visible and nothing in the log waits; seconds that it took.

        What ends a chain holds no event, and may come a flush later than the last one that does: a
        worker that is stopped between the two leaves it to the next, and the law calls it unread.
        """
        seconds = self.wait_for("drain", events, timeout_s, alive)
        began = time.monotonic() - seconds
        while waiting := conservation.behind(self.folder):
            if alive.poll() is not None:
                raise Failed(f"drain: the worker ended with {alive.returncode}, {waiting} wait")
            if time.monotonic() - began > timeout_s:
                raise Failed(f"drain: after {timeout_s} s messages of partitions wait: {waiting}")
            time.sleep(0.5)
        return time.monotonic() - began
