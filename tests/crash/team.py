"""Workers of one group, kept running as a supervisor would, and how long readers wait for them."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
from tests.conftest import free_ports
from tests.crash.harness import PRODUCER, Failed, Pipeline

from sealtrail_producer.chain_writer import partition_of

if TYPE_CHECKING:
    import random
    import subprocess

# A partition that nobody serves for so long is lost for a test.
LONGEST_S = 300.0


def instances(partitions: int) -> list[str]:
    """Names of which each lies in another partition."""
    found: dict[int, str] = {}
    for number in range(10_000):
        name = f"i{number}"
        found.setdefault(partition_of(PRODUCER, name, partitions), name)
        if len(found) == partitions:
            return [found[partition] for partition in sorted(found)]
    raise Failed("no names for all partitions")


@dataclass(slots=True)
class Member:
    """One worker of the group, whatever process it is just now."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    def metrics(self) -> dict[str, float]:
        """Its counters without labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as reply:
            lines = reply.read().decode().splitlines()
        pairs = (line.split(" ") for line in lines if "{" not in line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def owned(self) -> list[int]:
        """Partitions that it says it has."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as reply:
                body = json.loads(reply.read())
        except OSError:
            return []
        return list(body["assigned"])


@dataclass
class Team:
    """Workers of one group, and what was done to them."""

    pipeline: Pipeline
    partitions: int
    random: random.Random
    session_s: float = 6.0
    members: list[Member] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    # Kind of fault -> seconds until each partition was served again.
    served: dict[str, list[float]] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """A line with the time."""
        sys.stdout.write(f"{time.monotonic() - self.began:6.1f} s  {text}\n")
        sys.stdout.flush()

    def join(self) -> Member:
        """One more worker."""
        [port] = free_ports(1)
        name = f"w{len(self.members)}"
        member = Member(name, port, self._spawn(name, port))
        self.members.append(member)
        return member

    def _spawn(self, name: str, port: int) -> subprocess.Popen[bytes]:
        return self.pipeline.worker(worker_id=name, health_port=str(port))

    def restart(self, member: Member) -> None:
        """As its supervisor does."""
        member.process = self._spawn(member.name, member.port)

    def costs(self) -> dict[str, float]:
        """What flushes took since the workers that live now began, and how large they were."""
        cpu = spent = flushes = events = 0.0
        for member in self.members:
            told = member.metrics()
            times = psutil.Process(member.process.pid).cpu_times()
            cpu += times.user + times.system
            spent += told.get("sealtrail_flush_seconds_sum", 0.0)
            flushes += told.get("sealtrail_flushes_total", 0.0)
            events += told.get("sealtrail_events_total", 0.0)
        if not flushes:
            return {}
        return {
            "flushes": flushes,
            "events_per_flush": round(events / flushes, 1),
            "ms_per_flush": round(spent / flushes * 1e3, 1),
            # Imports and what runs beside the stream included.
            "worker_cpu_ms_per_flush": round(cpu / flushes * 1e3, 1),
        }

    def positions(self) -> dict[int, int]:
        """How far readers see each partition."""
        rows = self.pipeline.sql("SELECT partition, max(committed) AS at FROM committed GROUP BY 1")
        return {int(row["partition"]): int(row["at"]) for row in rows}

    def settled(self, timeout_s: float = 240) -> None:
        """Wait until all partitions are assigned, each once."""
        deadline = time.monotonic() + timeout_s
        while True:
            owned = sorted(p for m in self.members for p in m.owned())
            if owned == list(range(self.partitions)):
                return
            if time.monotonic() > deadline:
                raise Failed(f"assigned after {timeout_s} s: {owned}")
            self.keep_alive()
            time.sleep(0.3)

    def keep_alive(self) -> None:
        """Start anew who ended, as a supervisor does."""
        for member in self.members:
            status = member.process.poll()
            if status is not None:
                self.done["ended_by_itself"] = self.done.get("ended_by_itself", 0) + 1
                self.say(f"{member.name} ended with {status}")
                self.restart(member)

    def until_served(self, kind: str, partitions: list[int], began: float) -> None:
        """Wait until readers see more of each of these partitions; note how long it took."""
        before = self.positions()
        waiting = set(partitions)
        while waiting:
            now = self.positions()
            for partition in sorted(waiting):
                if now.get(partition, -1) > before.get(partition, -1):
                    waiting.discard(partition)
                    self.served.setdefault(kind, []).append(time.monotonic() - began)
            if time.monotonic() - began > LONGEST_S:
                raise Failed(f"{kind}: partitions {sorted(waiting)} are not served any more")
            self.keep_alive()
            time.sleep(0.2)
        self.done[kind] = self.done.get(kind, 0) + 1
        took = self.served[kind][-len(partitions) :] if partitions else [0.0]
        self.say(f"{kind}: {len(partitions)} partitions served again after {max(took):.1f} s")

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.keep_alive()
            time.sleep(min(left, 0.5))
