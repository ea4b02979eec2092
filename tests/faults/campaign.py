"""`make faults`: a steady load, one fault after the other, forgeries throughout; nothing is lost.

Environment: MINUTES (60), SEED (random; printed, and what to set to see the same again), RATE of
the honest services in events a second, EVERY_S between two faults, KINDS (with commas; all),
SERVERS (real: Apache Kafka; embedded).
Prints how to play it again, a line a fault, what the store says at the end, and one line of JSON;
exit status 1 if anything is wrong.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

from tests.faults import verdict
from tests.faults.field import Failed, Field
from tests.faults.injectors.all import FAULTS, REAL
from tests.faults.schedule import Planned, plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.supervisor import Charge

SAMPLE_S = 1.0
WINDOW_S = 60
# What waits when an hour ends on a machine with other work to do.
DRAIN_S = 1_800.0


@dataclass
class Campaign:
    """One run and its figures."""

    seed: int
    minutes: float
    every_s: float
    rate: float
    kinds: tuple[str, ...]
    real: bool
    done: list[tuple[Planned, float, str]] = field(default_factory=list)
    samples: list[tuple[float, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """A line with the time."""
        sys.stdout.write(f"{time.monotonic() - self.began:7.1f} s  {text}\n")
        sys.stdout.flush()

    def again(self) -> str:
        """The command that plays the same once more: the schedule follows from all of these."""
        every = sorted(FAULTS if self.real else FAULTS.keys() - REAL)
        kinds = "" if list(self.kinds) == every else f" KINDS={','.join(self.kinds)}"
        return (
            f"make faults MINUTES={self.minutes:g} SEED={self.seed} EVERY_S={self.every_s:g}"
            f" RATE={self.rate:g} SERVERS={'real' if self.real else 'embedded'}{kinds}"
        )

    def run(self) -> tuple[dict[str, Any], list[str]]:
        """Everything; figures, and what is wrong."""
        planned = plan(self.seed, self.kinds, self.minutes * 60, self.every_s)
        self.say(f"seed {self.seed}: {len(planned)} faults of {len(self.kinds)} kinds")
        self.say(f"again: {self.again()}")
        forge_s = max(0.5, min(5.0, self.minutes * 60 / 120))
        with Field(self.rate, forge_s=forge_s, seed=self.seed, real=self.real) as where:
            self.began = time.monotonic()
            where.begin()
            where.forger.start()
            stop = threading.Event()
            sampler = threading.Thread(target=self._sample, args=(where, stop), daemon=True)
            sampler.start()
            try:
                for fault in planned:
                    # A slow machine gets fewer, and never more at once.
                    if time.monotonic() - self.began < self.minutes * 60:
                        self._play(where, fault)
                self._until(self.minutes * 60)
            finally:
                stop.set()
                sampler.join()
            return self._end(where)

    def _until(self, at_s: float) -> None:
        rest = at_s - (time.monotonic() - self.began)
        if rest > 0:
            time.sleep(rest)

    def _play(self, where: Field, fault: Planned) -> None:
        self._until(fault.at_s)
        begins = time.monotonic() - self.began
        try:
            told = FAULTS[fault.kind](where, random.Random(fault.seed))
        except Failed as error:
            told = f"WRONG: {error}"
            self.problems.append(f"{fault.kind}: {error}")
        took = time.monotonic() - self.began - begins
        self.done.append((fault, took, told))
        self.say(f"#{len(self.done):<4}{fault.kind:20}{told} ({took:.1f} s)")

    def _sample(self, where: Field, stop: threading.Event) -> None:
        while not stop.wait(SAMPLE_S):
            self.samples.append((time.monotonic() - self.began, where.emitted()))

    def _left(self, workers: Sequence[Charge]) -> Counter[str]:
        """Tell why workers ended by themselves; how often each reason was, whatever its numbers."""
        left = [(e, w.name) for w in workers for e in w.ends if e.status not in {0, -SIGKILL}]
        for end, name in sorted(left, key=lambda item: item[0].at):
            at = end.at - self.began
            sys.stdout.write(f"left: {name} at {at:.0f} s with {end.status}: {end.words}\n")
        return Counter(re.sub(r"\d+", "N", end.words) for end, _ in left)

    def offered(self) -> tuple[float, float]:
        """Events a second that were offered: over all, and in the worst whole minute."""
        # The first seconds are imports.
        samples = [s for s in self.samples if s[1]]
        (first_at, first), (last_at, last) = samples[0], samples[-1]
        rates, ahead = [], 0
        for at, count in samples:
            while ahead < len(samples) and samples[ahead][0] < at + WINDOW_S:
                ahead += 1
            if ahead == len(samples):
                break
            rates.append((samples[ahead][1] - count) / (samples[ahead][0] - at))
        mean = (last - first) / (last_at - first_at)
        return mean, min(rates, default=mean)

    def _end(self, where: Field) -> tuple[dict[str, Any], list[str]]:
        where.forger.finish()
        self.say("no more faults: the services close their chains")
        where.end_load()
        drained = where.drain(DRAIN_S)
        self.say(f"drained after {drained:.1f} s; now the store is asked")
        said = verdict.reach(where)
        mean, worst = self.offered()
        ends = {w.name: Counter(e.status for e in w.ends) for w in where.workers}
        left = self._left(where.workers)
        figures = {
            "seed": self.seed,
            "minutes": self.minutes,
            "servers": where.servers,
            "faults": len(self.done),
            "kinds": len({fault.kind for fault, _, _ in self.done}),
            "offered_per_s": round(mean),
            "offered_per_s_worst_minute": round(worst),
            "drained_s": round(drained, 1),
            **said.figures,
            "worker_ends": {n: dict(sorted(c.items())) for n, c in ends.items()},
            # Killed and asked to leave they were by the schedule; these are the others.
            "worker_left": dict(left.most_common()),
            "worker_peak_mb": max(c.peak_kb for c in where.workers) >> 10,
        }
        said.must(worst >= min(1_000, self.rate), f"only {worst:.0f} events/s in one minute")
        return figures, self.problems + said.problems


def main() -> int:
    """Run and print."""
    asked = os.environ
    real = asked.get("SERVERS", "real") == "real"
    every = sorted(FAULTS if real else FAULTS.keys() - REAL)
    kinds = tuple(k for k in asked.get("KINDS", "").split(",") if k) or tuple(every)
    campaign = Campaign(
        seed=int(asked.get("SEED") or random.SystemRandom().getrandbits(31)),
        minutes=float(asked.get("MINUTES") or 60),
        every_s=float(asked.get("EVERY_S") or 15),
        rate=float(asked.get("RATE") or 1_040),
        kinds=kinds,
        real=real,
    )
    try:
        figures, problems = campaign.run()
    except Failed as error:
        figures, problems = {"seed": campaign.seed, "faults": len(campaign.done)}, [str(error)]
    for name, value in figures.items():
        sys.stdout.write(f"{name:28}{value}\n")
    for problem in problems:
        sys.stdout.write(f"WRONG: {problem}\n")
    if problems:
        sys.stdout.write(f"again: {campaign.again()}\n")
    sys.stdout.write(json.dumps(figures | {"ok": not problems, "problems": problems[:20]}) + "\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
