"""`make bench-sdk`: how many events a second go through the whole pipeline on this machine.

Embedded stack, one worker, producers that go through the SDK (encode, hash, sign, spool with fsync,
Kafka), each event
with a parent, an input and an output. Measured from the first `emit` until the last event is
visible in
`provenance.events`; CPU seconds are the kernel's account of each process. Everything shares the
machine.

Options: EVENTS (default 100000), PRODUCERS (default 2). Ends with one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.crash.harness import Failed, Pipeline

if TYPE_CHECKING:
    import subprocess

SETTINGS = {"SEALTRAIL_PACE_BYTES": "1500000"}


def usage(pid: int) -> tuple[float, int]:
    """(CPU seconds, peak resident kB) of a live process, from proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return ticks / os.sysconf("SC_CLK_TCK"), int(peak.split()[1])


def spent(times: os.times_result) -> float:
    """CPU seconds of the children that have ended."""
    return times.children_user + times.children_system


def service_pid(pipeline: Pipeline, name: str) -> int:
    """Pid of a process of the embedded stack."""
    return int(json.loads((pipeline.folder / "run" / f"{name}.json").read_text())["pid"])


def measure(events: int, producers: int) -> dict[str, Any]:
    """One run; its figures."""
    with Pipeline(SETTINGS) as pipeline:
        worker = pipeline.worker()
        warm(pipeline, worker)
        pids = {"worker": worker.pid} | {n: service_pid(pipeline, n) for n in ("broker", "store")}
        before = {name: usage(pid)[0] for name, pid in pids.items()}
        children = os.times()
        base = pipeline.committed()
        began = time.monotonic()
        feeders = [pipeline.feeder(f"bench{n}", events // producers) for n in range(producers)]
        sent = 0
        for feeder in feeders:
            out, _ = feeder.communicate(timeout=1200)
            if feeder.returncode != 0:
                raise Failed(f"a producer ended with {feeder.returncode}")
            sent += json.loads(out)["events"]
        pipeline.wait_for("drain", base + sent, 600, worker)
        seconds = time.monotonic() - began
        after = os.times()
        cpu = {name: usage(pid)[0] - before[name] for name, pid in pids.items()}
        cpu["producers"] = (
            after.children_user
            + after.children_system
            - children.children_user
            - children.children_system
        )
        wire = pipeline.number("SELECT sum(length(value)) FROM sealtrail.payloads")
        rest = pipeline.number(
            "SELECT sum(data_compressed_bytes) FROM system.parts"
            " WHERE active AND database = 'sealtrail'"
        )
        total = pipeline.committed()
        return {
            "events": sent,
            "seconds": round(seconds, 2),
            "events_per_second": round(sent / seconds),
            "cpu_us_per_event": {name: round(value / sent * 1e6, 1) for name, value in cpu.items()},
            "worker_rss_mb": round(usage(worker.pid)[1] / 1024),
            "bytes_per_event_wire": round(wire / total, 1),
            "bytes_per_event_at_rest": round(rest / total, 1),
            "cores": os.cpu_count(),
        }


def warm(pipeline: Pipeline, worker: subprocess.Popen[bytes]) -> None:
    """Not counted: imports, the first assignment, the first parts."""
    feeder = pipeline.feeder("warm", 2_000)
    feeder.communicate(timeout=120)
    pipeline.wait_for("warm-up", 2_000, 120, worker)


def main(args: list[str]) -> int:
    """Measure and print."""
    events, producers = [*map(int, args), *(100_000, 2)[len(args) :]]
    figures = measure(events, producers)
    for name, value in figures.items():
        sys.stdout.write(f"{name:26} {value}\n")
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
