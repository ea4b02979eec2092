"""`make scale-test`: workers join, leave, die and freeze; nothing is lost, nothing doubled.

Three workers share twelve partitions of a real Kafka broker. Each partition has a chain of its own,
whose events name events of another partition as parents, so that links cross workers. For five
minutes one worker is killed with SIGKILL every 20 s and started anew at once, as a supervisor
would; one is frozen past its session, while the others take over, and thawed; one leaves and comes
back. For each partition of a worker that went the time is taken until readers see more of it.

At the end: each event once in the views, every link verified, order kept in each chain, the
conservation law holds, `audit store` is clean.

Options: --seconds 300 --every 20 --session 6 --embedded --short. Prints a line per fault and
ends with one line of JSON; exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.crash import verdict
from tests.crash.harness import Failed, Pipeline
from tests.crash.team import Team, instances

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS, PARTITIONS, FEEDERS = 3, 12, 3
# Events a second of each partition: every flush has something of every partition.
RATE = 25
MOST_EVENTS = 1_000_000
SETTINGS = {
    "SEALTRAIL_PARTITIONS": str(PARTITIONS),
    "SEALTRAIL_LINKS_REBUILD_S": "3600",
    "SEALTRAIL_CLOSE_S": "300",
    # Every partition has news twice a second.
    "SEALTRAIL_BATCH_MS": "500",
}
GOAL_S = 10.0
# What a worker had sent to the store when it was killed is taken, and serves nobody.
LANDED_S = 1.0


def kill(team: Team) -> None:
    """SIGKILL, and a new process at once."""
    member = team.random.choice(team.members)
    owned = member.owned()
    began = time.monotonic()
    member.process.kill()
    member.process.wait()
    team.restart(member)
    team.rest(LANDED_S)
    team.until_served("killed", owned, began)


def freeze(team: Team) -> None:
    """SIGSTOP past the session, SIGCONT: for a while two believe that they own the same."""
    member = team.random.choice(team.members)
    owned = member.owned()
    began = time.monotonic()
    member.process.send_signal(signal.SIGSTOP)
    team.rest(LANDED_S)
    team.until_served("frozen", owned, began)
    time.sleep(max(0.0, team.session_s + 6 - (time.monotonic() - began)))
    member.process.send_signal(signal.SIGCONT)
    team.say(f"thawed after {time.monotonic() - began:.1f} s")


def leave(team: Team) -> None:
    """SIGTERM: it hands its partitions over; then another one joins in its place."""
    member = team.random.choice(team.members)
    owned = member.owned()
    began = time.monotonic()
    member.process.send_signal(signal.SIGTERM)
    status = member.process.wait(30)
    if status != 0:
        raise Failed(f"{member.name} was asked to stop and ended with {status}")
    team.members.remove(member)
    team.until_served("left", owned, began)
    team.members.append(member)
    team.restart(member)
    team.until_served("joined", list(range(PARTITIONS)), time.monotonic())


def faults(team: Team, seconds: float, every: float) -> None:
    """One fault every so many seconds."""
    for number, _ in enumerate(_beats(team, seconds, every)):
        kill(team)
        if number == 3:
            freeze(team)
        if number == 8:
            leave(team)


def _beats(team: Team, seconds: float, every: float) -> Iterator[float]:
    began = time.monotonic()
    number = 1
    while number * every <= seconds:
        rest = began + number * every - time.monotonic()
        if rest > 0:
            team.rest(rest)
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
    leave(team)
    kill(team)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole scenario; figures of it."""
    settings = SETTINGS | {"SEALTRAIL_SESSION_TIMEOUT_S": str(options.session)}
    if options.embedded:
        settings["SEALTRAIL_PACE_BYTES"] = "1500000"
    with Pipeline(settings, brokers=0 if options.embedded else 1) as pipeline:
        team = Team(pipeline, PARTITIONS, random.Random(options.seed), options.session)
        for _ in range(WORKERS - options.short):
            team.join()
        team.settled()
        team.say(f"{len(team.members)} workers share {PARTITIONS} partitions")
        sent = load(team, options)
        figures = {"costs": team.costs()} | verdict.judge(pipeline, sent)
    return figures | report(team, figures, embedded=options.embedded)


def load(team: Team, options: argparse.Namespace) -> dict[str, int]:
    """Send events while faults happen, then wait until all are visible."""
    names = instances(PARTITIONS)
    enough = team.pipeline.folder / "enough"
    feeders = [
        # As long as there are faults: who is served is seen by new events.
        team.pipeline.feeder(",".join(names[n::FEEDERS]), MOST_EVENTS, RATE, enough=enough)
        for n in range(FEEDERS)
    ]
    team.until_served("first", list(range(PARTITIONS)), time.monotonic())
    if options.short:
        short(team)
    else:
        faults(team, options.seconds, options.every)
    enough.touch()
    sent = verdict.sent(feeders)
    team.settled()
    drained = team.pipeline.wait_for_all(sent["events"], 600, team.members[0].process)
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
    parser.add_argument("--session", type=float, default=6.0, help="on a busy machine: more")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--short", action="store_true")
    return verdict.main(run, parser.parse_args(args))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
