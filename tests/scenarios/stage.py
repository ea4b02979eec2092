"""A stack and a worker, driven from outside by the `sealtrail` command."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tests.scenarios import clocks, conservation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.conftest import Stack

NOTHING: dict[str, str] = {}
SEALTRAIL = (sys.executable, "-c", "from sealtrail.cli import main; main()")


@dataclass(slots=True)
class Stage:
    """A stack that is up, and the worker that runs on it."""

    stack: Stack
    _open: ExitStack = field(default_factory=ExitStack)
    _worker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_worker()
        self._open.close()
        clocks.sweep()

    @property
    def folder(self) -> Path:
        """State folder of everything."""
        return self.stack.state_dir

    def call(
        self, *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run `sealtrail` to its end, whatever that is."""
        return subprocess.run(
            [*SEALTRAIL, *arguments],
            env=self.stack.env | dict(env or {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def run(self, *arguments: str, codes: tuple[int, ...] = (0,), **more: Any) -> str:
        """Run `sealtrail`; its standard output. More: as `call` takes it."""
        done = self.call(*arguments, **more)
        assert done.returncode in codes, f"{arguments}: {done.returncode}\n{done.stderr[-3000:]}"
        return done.stdout

    def ask(self, *arguments: str, codes: tuple[int, ...] = (0,), **more: Any) -> Any:
        """Run `sealtrail ... --json`; its answer."""
        said = self.run(*arguments, "--json", codes=codes, **more)
        # Not splitlines: text in the answer may hold line ends of other alphabets.
        return json.loads(said.strip().split("\n")[-1])

    def worker_pid(self) -> int:
        """Of the worker that runs."""
        assert self._worker is not None
        return self._worker.pid

    def sql(self, query: str) -> list[dict[str, Any]]:
        """What `sealtrail sql` answers."""
        answer: list[dict[str, Any]] = self.ask("sql", query, "--limit", "0")
        return answer

    def start_worker(
        self, command: Sequence[str] = (*SEALTRAIL, "worker"), env: Mapping[str, str] = NOTHING
    ) -> None:
        """Start `sealtrail worker`.

        Args:
            command: another program that runs one.
            env: further variables.
        """
        with (self.folder / "worker.log").open("ab") as log:
            self._worker = subprocess.Popen(
                command, env=self.stack.env | dict(env), stdout=log, stderr=log
            )

    def outlive(self, command: Sequence[str], done: Callable[[], Any], timeout_s: float) -> int:
        """Run a worker that dies, anew each time as a supervisor would, until something holds.

        Returns:
            How often it died.
        """
        end, deaths = time.monotonic() + timeout_s, 0
        self.start_worker(command)
        while not done():
            assert time.monotonic() < end, f"{deaths} deaths and no end\n{self.log()}"
            time.sleep(0.5)
            if self._worker is not None and self._worker.poll() is not None:
                deaths += 1
                self.start_worker(command)
        return deaths

    def kill_worker(self) -> None:
        """SIGKILL, and the files that it kept are gone."""
        assert self._worker is not None
        self._worker.kill()
        self._worker.wait()
        self._worker = None
        shutil.rmtree(self.folder / "worker", ignore_errors=True)

    def stop_worker(self) -> int | None:
        """SIGTERM; its exit status."""
        if self._worker is None:
            return None
        worker, self._worker = self._worker, None
        worker.send_signal(signal.SIGTERM)
        try:
            return worker.wait(15)
        except subprocess.TimeoutExpired:
            worker.kill()
            return worker.wait()

    def log(self) -> str:
        """The end of what the worker wrote."""
        return (self.folder / "worker.log").read_text(errors="replace")[-5000:]

    def wait(self, what: str, done: Callable[[], Any], timeout_s: float = 300) -> None:
        """Wait until something holds."""
        end = time.monotonic() + timeout_s
        while not done():
            alive = self._worker is not None and self._worker.poll() is None
            assert alive, f"{what}: the worker ended\n{self.log()}"
            assert time.monotonic() < end, f"{what}: not after {timeout_s} s\n{self.log()}"
            time.sleep(1)

    def count(self, condition: str) -> int:
        """Committed messages whose fate fulfils a condition."""
        query = f"SELECT count() AS n FROM sealtrail.committed_dispositions WHERE {condition}"
        return int(self.sql(query)[0]["n"])

    def drained(self) -> bool:
        """Whether all that was sent is committed."""
        return not conservation.behind(self.folder)
