"""One pipeline that several fault tests share: each sends some events, does its harm, and looks."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from confluent_kafka import Producer
from tests.attacks import edits
from tests.crash.harness import PRODUCER, Pipeline
from tests.scenarios import conservation
from tests.scenarios.chains import Chain

from sealtrail_producer import keyring
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

_numbers = itertools.count()
SETTINGS = {"SEALTRAIL_SESSION_TIMEOUT_S": "6", "SEALTRAIL_CLOSE_S": "60"}


class Line:
    """The pipeline, its worker, and how many events must be visible by now."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.worker: subprocess.Popen[bytes] | None = None
        self.sent = 0
        self._wire: Producer | None = None

    # -- worker ---------------------------------------------------------------

    def start(self, crash_at: str = "", **settings: str) -> subprocess.Popen[bytes]:
        """Start a worker; with crash_at it kills itself there once, settings are its own."""
        if crash_at:
            (self.pipeline.folder / f"crashed-{crash_at}").unlink(missing_ok=True)
            self.worker = self.pipeline.crashing(crash_at)
        else:
            self.worker = self.pipeline.worker(**settings)
        return self.worker

    def stop(self) -> float:
        """SIGTERM; seconds that the worker took to end well."""
        assert self.worker is not None
        worker, self.worker = self.worker, None
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL."""
        assert self.worker is not None
        worker, self.worker = self.worker, None
        worker.kill()
        worker.wait()

    def pid(self, name: str) -> int:
        """Of a process of the embedded stack."""
        record = json.loads((self.pipeline.folder / "run" / f"{name}.json").read_text())
        return int(record["pid"])

    def kill_server(self, name: str) -> None:
        """SIGKILL for the broker, the registry or the store."""
        os.kill(self.pid(name), signal.SIGKILL)
        time.sleep(0.5)

    # -- events ---------------------------------------------------------------

    def feed(self, events: int, rate: float = 0) -> subprocess.Popen[bytes]:
        """Send events through the SDK in a process of its own."""
        self.sent += events
        never = Path(self.pipeline.folder / "never") if rate else None
        return self.pipeline.feeder(f"line-{next(_numbers)}", events, rate, never)

    def send(self, events: int, rate: float = 0) -> None:
        """Send events and wait until the broker has them."""
        feeder = self.feed(events, rate)
        feeder.communicate(timeout=300)
        assert feeder.returncode == 0

    def send_until(self, done: Callable[[], bool], timeout_s: float = 300) -> None:
        """Send a few events at a time, so that there are many flushes, until something holds."""
        end = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < end, "not in time"
            self.send(60)

    def died(self, process: subprocess.Popen[bytes]) -> None:
        """Send events until a worker has killed itself."""
        self.send_until(lambda: process.poll() is not None)
        assert process.returncode == -signal.SIGKILL

    def publish(self, value: bytes, partition: int = 0) -> None:
        """Put a message on the topic by hand."""
        if self._wire is None:
            settings = conservation.variables(self.pipeline.folder)
            self._wire = Producer({"bootstrap.servers": settings["SEALTRAIL_KAFKA_BOOTSTRAP"]})
        self._wire.produce("provenance.events", value, partition=partition)
        assert self._wire.flush(30) == 0

    def chain(self, partition: int = 0) -> Chain:
        """A chain signed by hand."""
        files = sorted((self.pipeline.folder / "keys").glob(f"{PRODUCER}*.pem"))
        return Chain(
            keyring.open_all([str(f) for f in files], ProducerSettings()), PRODUCER, partition
        )

    # -- looking --------------------------------------------------------------

    def sql(self, sql: str) -> None:
        """Run a statement as the store's writer."""
        edits.command(conservation.variables(self.pipeline.folder), sql)

    def number(self, query: str) -> int:
        """The one number that a query answers."""
        return self.pipeline.number(query)

    def wait(self, done: Callable[[], bool], timeout_s: float = 300) -> None:
        """Wait until something holds."""
        end = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < end, "not in time"
            time.sleep(0.3)

    def drained(self, timeout_s: float = 300) -> None:
        """Wait until all that was sent is visible, once, and nothing in the log waits."""
        assert self.worker is not None
        self.pipeline.wait_for_all(self.sent, timeout_s, self.worker)

    def law(self) -> str:
        """All is there once, and the conservation law holds; in words."""
        found = conservation.check(self.pipeline.folder)
        # In words: pytest takes no assertion of this file apart, and a table shows the last line.
        assert found.holds, "; ".join(map(str, found.differences))
        assert found.events == self.sent, f"{found.events} of {self.sent} events"
        distinct = self.number("SELECT uniqExact(event_id) FROM provenance.events")
        assert distinct == self.sent, f"{distinct} different events of {self.sent}"
        return f"{self.sent} events, each once; {found.consumed} offsets, each with one fate"

    @staticmethod
    def waits_for(port: int) -> str:
        """What a worker says that it waits for; empty when it is well or has not begun."""
        try:
            said = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=60).json()
        except httpx.HTTPError:
            return ""
        return str(said["waiting_for"])

    @staticmethod
    def metric(port: int, name: str) -> float:
        """A metric without labels of a worker."""
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
        (line,) = [x for x in metrics.splitlines() if x.startswith(f"{name} ")]
        return float(line.split()[-1])

    def findings(self) -> list[dict[str, Any]]:
        """What is open."""
        return self.pipeline.sql("SELECT code, latest_detail FROM provenance.open_findings")
