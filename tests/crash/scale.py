"""`make scale-test`: workers join, leave, die and freeze; nothing is lost, nothing doubled.

Three workers share twelve partitions of a real Kafka broker. Each partition has a chain of its own,
whose events name events of another partition as parents, so that links cross workers. For five
minutes one worker is killed with SIGKILL every 20 s and started anew at once, as a supervisor
would; one is frozen past its session, while the others take over, and thawed; one leaves and comes
back. For each partition of a worker that went the time is taken until readers see more of it.

At the end: each event once in the views, every link verified, order kept in each chain, the
conservation law holds, `audit store` is clean.

Options: --seconds 300 --every 20 --embedded --short. Prints a line per fault and ends with one line
of JSON; exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.conftest import free_ports
from tests.crash import verdict
from tests.crash.harness import PRODUCER, Failed, Pipeline

from sealtrail_producer.chain_writer import partition_of

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

WORKERS, PARTITIONS, FEEDERS = 3, 12, 3
SESSION_S = 6
# Events a second of each partition: every flush has something of every partition.
RATE = 25
SETTINGS = {
    "SEALTRAIL_PARTITIONS": str(PARTITIONS),
    "SEALTRAIL_SESSION_TIMEOUT_S": str(SESSION_S),
    "SEALTRAIL_LINKS_REBUILD_S": "3600",
    "SEALTRAIL_CLOSE_S": "300",
    # Every partition has news twice a second.
    "SEALTRAIL_BATCH_MS": "500",
}
GOAL_S = 10.0
# A partition that nobody serves for so long is lost for this test.
LONGEST_S = 90.0


def instances() -> list[str]:
    """Names of which each lies in another partition."""
    found: dict[int, str] = {}
    for number in range(10_000):
        name = f"i{number}"
        found.setdefault(partition_of(PRODUCER, name, PARTITIONS), name)
        if len(found) == PARTITIONS:
            return [found[partition] for partition in sorted(found)]
    raise Failed("no names for all partitions")


@dataclass(slots=True)
class Member:
    """One worker of the group, whatever process it is just now."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

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
    random: random.Random
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

    def positions(self) -> dict[int, int]:
        """How far readers see each partition."""
        rows = self.pipeline.sql("SELECT partition, max(committed) AS at FROM committed GROUP BY 1")
        return {int(row["partition"]): int(row["at"]) for row in rows}

    def settled(self, timeout_s: float = 120) -> None:
        """Wait until all partitions are assigned, each once."""
        deadline = time.monotonic() + timeout_s
        while True:
            owned = sorted(p for m in self.members for p in m.owned())
            if owned == list(range(PARTITIONS)):
                return
            if time.monotonic() > deadline:
                raise Failed(f"assigned after {timeout_s} s: {owned}")
            self._alive()
            time.sleep(0.3)

    def _alive(self) -> None:
        for member in self.members:
            status = member.process.poll()
            if status is not None:
                # The watchdog's, or a broker's: any supervisor starts it anew.
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
            self._alive()
            time.sleep(0.2)
        self.done[kind] = self.done.get(kind, 0) + 1
        took = self.served[kind][-len(partitions) :] if partitions else [0.0]
        self.say(f"{kind}: {len(partitions)} partitions served again after {max(took):.1f} s")

    # -- what is done to them ---------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL, and a new process at once."""
        member = self.random.choice(self.members)
        owned = member.owned()
        began = time.monotonic()
        member.process.kill()
        member.process.wait()
        self.restart(member)
        self.until_served("killed", owned, began)

    def freeze(self) -> None:
        """SIGSTOP past the session, SIGCONT: for a while two believe that they own the same."""
        member = self.random.choice(self.members)
        owned = member.owned()
        began = time.monotonic()
        member.process.send_signal(signal.SIGSTOP)
        self.until_served("frozen", owned, began)
        time.sleep(max(0.0, SESSION_S + 6 - (time.monotonic() - began)))
        member.process.send_signal(signal.SIGCONT)
        self.say(f"thawed after {time.monotonic() - began:.1f} s")

    def leave(self) -> None:
        """SIGTERM: it hands its partitions over; then another one joins in its place."""
        member = self.random.choice(self.members)
        owned = member.owned()
        began = time.monotonic()
        member.process.send_signal(signal.SIGTERM)
        status = member.process.wait(30)
        if status != 0:
            raise Failed(f"{member.name} was asked to stop and ended with {status}")
        self.members.remove(member)
        self.until_served("left", owned, began)
        self.members.append(member)
        self.restart(member)
        self.until_served("joined", list(range(PARTITIONS)), time.monotonic())


def faults(team: Team, seconds: float, every: float) -> None:
    """One fault every so many seconds."""
    for number, _ in enumerate(_beats(team, seconds, every)):
        team.kill()
        if number == 3:
            team.freeze()
        if number == 8:
            team.leave()


def _beats(team: Team, seconds: float, every: float) -> Iterator[float]:
    began = time.monotonic()
    number = 1
    while number * every <= seconds:
        rest = began + number * every - time.monotonic()
        if rest > 0:
            time.sleep(rest)
        else:
            # What came before took longer than a beat.
            team.done["late_beats"] = team.done.get("late_beats", 0) + 1
        yield number * every
        number += 1


def short(team: Team) -> None:
    """A join, a leave and a kill: what CI has time for."""
    team.join()
    team.settled()
    team.until_served("joined", list(range(PARTITIONS)), time.monotonic())
    team.leave()
    team.kill()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole scenario; figures of it."""
    pace = {"SEALTRAIL_PACE_BYTES": "1500000"} if options.embedded else {}
    with Pipeline(SETTINGS | pace, brokers=0 if options.embedded else 1) as pipeline:
        team = Team(pipeline, random.Random(options.seed))
        for _ in range(WORKERS - options.short):
            team.join()
        team.settled()
        team.say(f"{len(team.members)} workers share {PARTITIONS} partitions")
        sent = load(team, options)
        figures = verdict.judge(pipeline, sent)
    return figures | report(team, figures, embedded=options.embedded)


def load(team: Team, options: argparse.Namespace) -> dict[str, int]:
    """Send events while faults happen, then wait until all are visible."""
    names = instances()
    hurry = team.pipeline.folder / "hurry"
    events = round(RATE * options.seconds)
    feeders = [
        team.pipeline.feeder(",".join(names[n::FEEDERS]), events, RATE, hurry)
        for n in range(FEEDERS)
    ]
    team.until_served("first", list(range(PARTITIONS)), time.monotonic())
    if options.short:
        short(team)
    else:
        faults(team, options.seconds, options.every)
    hurry.touch()
    sent = verdict.sent(feeders)
    team.settled()
    drained = team.pipeline.wait_for("drain", sent["events"], 300, team.members[0].process)
    team.say(f"{sent['events']} events are visible, {drained:.1f} s after the last was sent")
    return sent


def report(team: Team, figures: dict[str, Any], *, embedded: bool) -> dict[str, Any]:
    """Times, and whether all is as it must be."""
    killed = team.served.get("killed", [0.0])
    return {
        "kafka": "embedded" if embedded else "Apache Kafka 4.4.0, one broker",
        "workers": WORKERS,
        "partitions": PARTITIONS,
        "faults": team.done,
        "served_again_s": {
            kind: {
                "median": round(statistics.median(times), 2),
                "longest": round(max(times), 2),
                "partitions": len(times),
            }
            for kind, times in team.served.items()
        },
        "seconds": round(time.monotonic() - team.began, 1),
        "ok": figures["ok"] and statistics.median(killed) < GOAL_S,
    }


def main(args: list[str]) -> int:
    """Run with the options given."""
    parser = argparse.ArgumentParser(prog="make scale-test")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--every", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--short", action="store_true")
    return verdict.main(run, parser.parse_args(args))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
