"""`make crash-test`: what is acknowledged is stored, once, whatever is killed when.

100,000 events by four instances, paced by lag, through the embedded stack, while
- the worker is killed with SIGKILL 20 times at random, and once at each of five points of a flush;
- one worker is frozen, replaced, and thawed (a zombie);
- the broker is restarted once (its memory is gone: it is another log, and all go on).
At the end: each event once in the views, every link verified, the conservation law holds,
`audit store` is clean.

Options: EVENTS KILLS SEED. Prints a line per fault and ends with one line of JSON; exit status 1 if
anything is wrong.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.crash import verdict
from tests.crash.harness import Failed, Pipeline
from tests.crash.worker import POINTS

if TYPE_CHECKING:
    import subprocess

INSTANCES = 4
SETTINGS = {
    "SEALTRAIL_PACE_BYTES": "1500000",
    "SEALTRAIL_SESSION_TIMEOUT_S": "6",
    "SEALTRAIL_LINKS_REBUILD_S": "3600",
    # The last batches of a feeder wait for the pipeline to catch up.
    "SEALTRAIL_CLOSE_S": "300",
}
# During the faults half of the events are sent within so many seconds; then comes the rest.
FAULTS_S = 240


class Scenario:
    """One run: the pipeline, its current worker and what was done to it."""

    def __init__(self, pipeline: Pipeline, events: int, kills: int, seed: int) -> None:
        self.pipeline = pipeline
        self.events = events
        self.kills = kills
        self.random = random.Random(seed)
        self.began = time.monotonic()
        self.killed = self.at_points = 0
        self.worker = pipeline.worker()

    def say(self, text: str) -> None:
        """A line with the time."""
        sys.stdout.write(f"{time.monotonic() - self.began:6.1f} s  {text}\n")
        sys.stdout.flush()

    def progress(self, more: int, timeout_s: float = 120) -> int:
        """Wait until so many more events are visible (or all)."""
        goal = min(self.pipeline.committed() + more, self.events)
        self.pipeline.wait_for("progress", goal, timeout_s, self.worker)
        return self.pipeline.committed()

    def kill(self, process: subprocess.Popen[bytes], number: int) -> None:
        """Send a signal to one of ours."""
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait()

    @staticmethod
    def ended(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
        """Exit status of a process that must end by itself; None if it did not."""
        deadline = time.monotonic() + timeout_s
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        return process.poll()

    def points(self) -> None:
        """Once at each point of a flush."""
        for point in POINTS:
            self.kill(self.worker, signal.SIGKILL)
            crashing = self.pipeline.crashing(point)
            status = self.ended(crashing, 120)
            if status != -signal.SIGKILL:
                raise Failed(f"{point}: the worker ended with {status}")
            self.at_points += 1
            self.worker = self.pipeline.worker()
            self.say(f"killed {point}; {self.progress(1)} events visible")

    def random_kills(self) -> None:
        """At random moments, whatever it is doing."""
        while self.killed < self.kills:
            time.sleep(self.random.uniform(0.3, 5.0))
            self.kill(self.worker, signal.SIGKILL)
            self.killed += 1
            self.worker = self.pipeline.worker()
            if self.killed % 5 == 0:
                self.say(f"killed at random {self.killed} times; {self.progress(1)} events visible")

    def zombie(self) -> None:
        """Freeze, replace, thaw: two workers believe that the same partitions are theirs."""
        frozen = self.worker
        self.kill(frozen, signal.SIGSTOP)
        self.worker = self.pipeline.worker()
        self.progress(1, timeout_s=180)
        self.kill(frozen, signal.SIGCONT)
        time.sleep(12)
        self.kill(frozen, signal.SIGKILL)
        self.say(
            f"a frozen worker was replaced, thawed and ended; {self.progress(1)} events visible"
        )

    def broker(self) -> None:
        """Another broker at the same address: what the old one held is gone with its memory."""
        record = json.loads((self.pipeline.folder / "run" / "broker.json").read_text())
        os.kill(int(record["pid"]), signal.SIGKILL)
        time.sleep(1)
        self.pipeline.sealtrail("local", "up")
        self.kill(self.worker, signal.SIGKILL)
        self.worker = self.pipeline.worker()
        self.say("the broker was killed and started anew")


def run(events: int, kills: int, seed: int) -> dict[str, Any]:
    """The whole scenario; figures of it."""
    with Pipeline(SETTINGS) as pipeline:
        scenario = Scenario(pipeline, events, kills, seed)
        # The broker is restarted between two halves: what it held unread would be gone with it,
        # a property of a broker in memory, not of the pipeline (docs/embedded-stack.md).
        first, second = (events // INSTANCES // 2), events // INSTANCES - events // INSTANCES // 2
        sent = feed(scenario, "a", first, scenario.points)
        scenario.broker()
        after = feed(scenario, "b", second, scenario.random_kills, scenario.zombie)
        sent = {name: count + after[name] for name, count in sent.items()}
        return report(scenario, sent)


def feed(scenario: Scenario, half: str, each: int, *faults: Any) -> dict[str, int]:
    """Send events while faults happen, then wait until all are visible; how many, and links."""
    before = scenario.pipeline.committed()
    hurry = scenario.pipeline.folder / f"hurry-{half}"
    feeders = [
        scenario.pipeline.feeder(f"{half}{n}", each, each / 2 / FAULTS_S, hurry)
        for n in range(INSTANCES)
    ]
    for fault in faults:
        fault()
    hurry.touch()
    sent = verdict.sent(feeders)
    scenario.pipeline.wait_for_all(before + sent["events"], 300, scenario.worker)
    scenario.say(f"half {half}: {sent['events']} events sent and visible")
    return sent


def report(scenario: Scenario, sent: dict[str, int]) -> dict[str, Any]:
    """What is in the store, and what was done."""
    return verdict.judge(scenario.pipeline, sent) | {
        "kills_at_random": scenario.killed,
        "kills_at_points": scenario.at_points,
        "seconds": round(time.monotonic() - scenario.began, 1),
    }


def main(args: list[str]) -> int:
    """Run with the options given."""
    events, kills, seed = [*map(int, args), *(100_000, 20, 1)[len(args) :]]
    return verdict.main(lambda _: run(events, kills, seed), None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
