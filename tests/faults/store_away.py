"""`make store-away`: the store is gone under load for long; memory stays bounded, nothing is lost.

Environment: MINUTES that it is away (10), RATE of the services (1040 events a second), SERVERS
(real: Apache Kafka; embedded: services then hold back by themselves what the broker could not).
Prints a worker's resident memory before, during and after, how long draining took, and one line of
JSON; exit status 1 if anything is wrong.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from tests.faults import verdict
from tests.faults.field import Failed, Field
from tests.faults.proxy import Manners

WARM_S = 20.0
SAMPLE_S = 2.0
DRAIN_S = 900.0
# What a worker may hold at full load (docs/performance.md), whatever waits in the broker.
WORKER_MB = 400


@dataclass
class Memory:
    """Resident memory of the workers together, MB, over a stretch of time."""

    seen: list[float] = field(default_factory=list)

    def watch(self, where: Field, seconds: float) -> None:
        """Look at it for so long."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            self.look(where)
            time.sleep(min(SAMPLE_S, end - now))

    def look(self, where: Field) -> None:
        """Look at it once."""
        self.seen.append(max(worker.resident_kb() for worker in where.workers) / 1024)

    def told(self) -> dict[str, int]:
        """Highest and last."""
        return {"highest": round(max(self.seen)), "last": round(self.seen[-1])}


def away(minutes: float, rate: float, *, real: bool) -> tuple[dict[str, Any], list[str]]:
    """One run; figures, and what is wrong."""
    before, during, after = Memory(), Memory(), Memory()
    with Field(rate, workers=1, forge_s=2, real=real) as where:
        where.begin()
        where.forger.start()
        where.caught_up(DRAIN_S)
        before.watch(where, WARM_S)
        ended = len(where.workers[0].ends)
        committed = where.committed()
        where.kill_server("store")
        where.store_proxy.behave(Manners(refuse=True))
        told(f"store away; {committed} events visible, worker {before.told()['last']} MB")
        emitted = where.emitted()
        during.watch(where, minutes * 60)
        emitted = where.emitted() - emitted
        where.store_proxy.behave(Manners())
        where.start_servers()
        told(f"store back; {emitted} events were offered meanwhile")
        waiting = sum(where.lag().values())
        began = time.monotonic()
        while sum(where.lag().values()) > waiting // 100 + 20:
            after.look(where)
            if time.monotonic() - began > DRAIN_S:
                raise Failed(f"{sum(where.lag().values())} of {waiting} messages still wait")
            time.sleep(SAMPLE_S)
        drained = time.monotonic() - began
        after.watch(where, WARM_S / 2)
        told(f"{waiting} messages drained in {drained:.0f} s, under load")
        where.forger.finish()
        where.end_load()
        where.drain(DRAIN_S)
        said = verdict.reach(where)
        highest = max(*before.seen, *during.seen, *after.seen)
        said.must(highest < WORKER_MB, f"the worker took {highest:.0f} MB")
        ends = where.workers[0].ends[ended:]
        # It may end in good order while it takes partitions over (docs/worker.md), and in no other.
        said.must({e.status for e in ends} <= {3}, f"the worker ended: {ends}")
        figures = {
            "minutes_away": minutes,
            "servers": where.servers,
            "offered_while_away": emitted,
            "offered_while_away_per_s": round(emitted / (minutes * 60)),
            "messages_waiting": waiting,
            "drained_s": round(drained, 1),
            "worker_ends": [(end.status, end.words) for end in ends],
            "worker_mb_before": before.told(),
            "worker_mb_away": during.told(),
            "worker_mb_after": after.told(),
            **said.figures,
        }
        return figures, said.problems


def told(text: str) -> None:
    """A line for people."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run and print."""
    minutes = float(os.environ.get("MINUTES") or 10)
    rate = float(os.environ.get("RATE") or 1_040)
    real = os.environ.get("SERVERS", "real") == "real"
    try:
        figures, problems = away(minutes, rate, real=real)
    except Failed as error:
        figures, problems = {"minutes_away": minutes}, [str(error)]
    for name, value in figures.items():
        sys.stdout.write(f"{name:28}{value}\n")
    for problem in problems:
        sys.stdout.write(f"WRONG: {problem}\n")
    sys.stdout.write(json.dumps(figures | {"ok": not problems, "problems": problems[:20]}) + "\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
