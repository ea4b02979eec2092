"""`make broker-test`: brokers die during a load; nothing is lost or doubled, and the order is kept.

Three real Kafka brokers (replication 3, min.insync.replicas 2), two workers, 200,000 events by four
instances through the SDK, while
1. a broker is killed with SIGKILL that does not lead the first partition, and started again;
2. the leader of the first partition is killed, and started again;
3. min.insync.replicas is 3 and one broker is away for 60 s: the brokers refuse, producers say so
   and spool;
4. all brokers are killed and away for 60 s: producers say so and spool.
At the end: each event once in the views, every link verified, batches of each chain in the order of
their numbers, the conservation law holds, `audit store` is clean.

Options: --events 200000 --away 60 --session 6. Prints a line per fault and ends with one
line of JSON; exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from tests.crash import verdict
from tests.crash.harness import Failed, Pipeline
from tests.crash.team import Team, instances
from tests.scenarios import conservation

if TYPE_CHECKING:
    from collections.abc import Callable

BROKERS, WORKERS, PARTITIONS = 3, 2, 4
TOPIC = "provenance.events"
SETTINGS = {
    "SEALTRAIL_PARTITIONS": str(PARTITIONS),
    "SEALTRAIL_LINKS_REBUILD_S": "3600",
    "SEALTRAIL_CLOSE_S": "300",
    # What is sent while no broker takes it.
    "SEALTRAIL_QUEUE_EVENTS": "100000",
}
# What had come before is in the store by then, and says nothing about the brokers that are left.
LANDED_S = 2.0
# The faults take about so long; then comes what is left of the events, as fast as it goes.
FAULTS_S = 300.0
REFUSED = "replicas of partition"
AWAY = "cannot be reached"


@dataclass
class Cluster:
    """The brokers, by their numbers."""

    pipeline: Pipeline

    @property
    def config(self) -> dict[str, Any]:
        """Of clients."""
        known = conservation.variables(self.pipeline.folder)
        return {"bootstrap.servers": known["SEALTRAIL_KAFKA_BOOTSTRAP"]}

    def partitions(self) -> dict[int, Any]:
        """Metadata of the topic's partitions."""
        with closing(Consumer(self.config | {"group.id": "broker-test"})) as consumer:
            return dict(consumer.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions)

    def leader(self) -> int:
        """Who leads the first partition."""
        return int(self.partitions()[0].leader)

    def in_sync(self, timeout_s: float = 120) -> None:
        """Wait until all replicas follow."""
        end = time.monotonic() + timeout_s
        while any(len(p.isrs) < BROKERS for p in self.partitions().values()):
            if time.monotonic() > end:
                raise Failed(f"replicas do not follow within {timeout_s} s")
            time.sleep(0.5)

    def demand(self, replicas: int) -> None:
        """Set the topic's min.insync.replicas."""
        entry = ConfigEntry(
            "min.insync.replicas",
            str(replicas),
            incremental_operation=AlterConfigOpType.SET,
        )
        resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[entry])
        # Named: the answers of a client that is collected are errors.
        admin = AdminClient(self.config)
        for done in admin.incremental_alter_configs([resource]).values():
            done.result(30)

    def kill(self, number: int) -> None:
        """SIGKILL."""
        self.pipeline.stack.kill(f"broker-{number}")

    def start(self, number: int) -> None:
        """Again, with its data."""
        self.pipeline.stack.start(f"broker-{number}")


class Scenario:
    """One run.

    Args:
        team: the workers.
        cluster: the brokers.
        away_s: how long brokers are away.
    """

    def __init__(self, team: Team, cluster: Cluster, away_s: float) -> None:
        self.team = team
        self.cluster = cluster
        self.away_s = away_s
        self.said: dict[str, int] = {}
        self.spooled: dict[str, int] = {}

    def lose(self, kind: str, number: int) -> None:
        """Kill a broker while the others go on; start it again."""
        began = time.monotonic()
        self.cluster.kill(number)
        self.team.rest(LANDED_S)
        self.team.until_served(kind, list(range(PARTITIONS)), began)
        self.cluster.start(number)
        self.cluster.in_sync()

    def too_few(self) -> None:
        """One broker away, and the topic wants all of them."""
        self.cluster.demand(BROKERS)
        number = self.cluster.leader() % BROKERS + 1
        self._away("too_few_replicas", REFUSED, lambda: self.cluster.kill(number))
        began = time.monotonic()
        self.cluster.start(number)
        self.cluster.in_sync()
        self.cluster.demand(2)
        self.team.until_served("too_few_replicas", list(range(PARTITIONS)), began)

    def all_away(self) -> None:
        """No broker at all."""

        def kill() -> None:
            for number in range(1, BROKERS + 1):
                self.cluster.kill(number)

        self._away("all_away", AWAY, kill)
        began = time.monotonic()
        self.team.pipeline.sealtrail("local", "up")
        self.cluster.in_sync()
        self.team.until_served("all_away", list(range(PARTITIONS)), began)

    def _away(self, kind: str, words: str, kill: Callable[[], None]) -> None:
        pipeline = self.team.pipeline
        before = self._complaints(words)
        began = time.monotonic()
        kill()
        self.team.say(f"{kind}: brokers are away for {self.away_s:.0f} s")
        self.team.rest(self.away_s / 2)
        seen, spool = pipeline.committed(), self._spool()
        self.team.rest(max(0.0, self.away_s - (time.monotonic() - began)))
        if pipeline.committed() > seen:
            raise Failed(f"{kind}: events were taken while brokers were away")
        self.said[kind] = self._complaints(words) - before
        self.spooled[kind] = self._spool() - spool
        self.team.say(
            f"{kind}: nothing taken, {self.said[kind]} complaints of producers, "
            f"{self.spooled[kind]} bytes more in spools in the second half"
        )

    def _complaints(self, words: str) -> int:
        lines = (self.team.pipeline.folder / "processes.log").read_text(errors="replace")
        return sum(
            words in line and "batches wait in the spool" in line for line in lines.splitlines()
        )

    def _spool(self) -> int:
        files = (self.team.pipeline.folder / "spool").rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole scenario; figures of it."""
    session = {"SEALTRAIL_SESSION_TIMEOUT_S": str(options.session)}
    with Pipeline(SETTINGS | session, brokers=BROKERS) as pipeline:
        team = Team(pipeline, PARTITIONS, random.Random(options.seed))
        for _ in range(WORKERS):
            team.join()
        team.settled()
        scenario = Scenario(team, Cluster(pipeline), options.away)
        hurry = pipeline.folder / "hurry"
        each = options.events // PARTITIONS
        feeders = [
            pipeline.feeder(name, each, each / (FAULTS_S + 2 * options.away), hurry)
            for name in instances(PARTITIONS)
        ]
        team.until_served("first", list(range(PARTITIONS)), time.monotonic())
        leader = scenario.cluster.leader()
        scenario.lose("follower_killed", leader % BROKERS + 1)
        scenario.lose("leader_killed", scenario.cluster.leader())
        scenario.too_few()
        scenario.all_away()
        hurry.touch()
        sent = verdict.sent(feeders)
        team.settled()
        pipeline.wait_for_all(sent["events"], 600, team.members[0].process)
        team.say(f"{sent['events']} events are visible")
        figures = verdict.judge(pipeline, sent)
    figures |= {
        "faults": team.done,
        "served_again_s": {
            kind: round(max(times), 1) for kind, times in team.served.items() if kind != "first"
        },
        "producers_said": scenario.said,
        "spool_grew_bytes": scenario.spooled,
        "seconds": round(time.monotonic() - team.began, 1),
    }
    figures["ok"] = (
        figures["ok"]
        and all(scenario.said.values())
        and all(grown > 0 for grown in scenario.spooled.values())
    )
    return figures


def main(args: list[str]) -> int:
    """Run with the options given."""
    parser = argparse.ArgumentParser(prog="make broker-test")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--away", type=float, default=60.0)
    parser.add_argument("--session", type=float, default=6.0, help="on a busy machine: more")
    parser.add_argument("--seed", type=int, default=1)
    return verdict.main(run, parser.parse_args(args))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
