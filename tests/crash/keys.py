"""`make keys-test`: keys are rotated and revoked under load; nothing is lost, nothing gets in.

Two workers share four partitions of a real Kafka broker. A producer with a chain in each partition
sends without a pause while its key is rotated by command, several times: each chain must go on, by
one key after the other, without a gap. Beside it a thief sends with a stolen key, in two
partitions, until and after the key is revoked as COMPROMISED; then older records of the key and
tombstones are put on the topic of keys. What arrived before the revocation must stay, what arrived
afterwards must be refused, by both workers, and `keys exposure` must name exactly what was let in.

At the end: each event once in the views, every link verified, the conservation law holds, `audit
store` is clean.

Options: --rotations 3 --tail 15 --embedded --short. Prints a line per act and ends with one line of
JSON; exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.crash import verdict
from tests.crash.harness import PRODUCER, Failed, Pipeline
from tests.crash.team import Team, instances
from tests.scenarios import conservation

from sealtrail.batch import SignedBatch, unframe
from sealtrail.event import EntityRef, EventType
from sealtrail.identity import OPERATOR
from sealtrail.settings import load
from sealtrail_producer import Trail, kafka
from sealtrail_producer.chain_writer import partition_of
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS, PARTITIONS = 2, 4
THIEF = "leaked"
# A revocation is in force on all workers within so many seconds (by the arrival of what is judged).
GOAL_S = 5.0
# Long enough for a machine that does other things as well.
OVERLAP_S = 120
SETTINGS = {
    "SEALTRAIL_PARTITIONS": str(PARTITIONS),
    "SEALTRAIL_SESSION_TIMEOUT_S": "6",
    "SEALTRAIL_LINKS_REBUILD_S": "3600",
    "SEALTRAIL_CLOSE_S": "300",
    # Every partition has news five times a second.
    "SEALTRAIL_BATCH_MS": "200",
}


@dataclass
class Thief:
    """Whoever has the stolen key: sends from two processes' worth of chains until told to stop."""

    settings: ProducerSettings
    sent: dict[str, int] = field(default_factory=dict)
    partitions: list[int] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """One chain in each of two partitions."""
        names: dict[int, str] = {}
        for number in range(1000):
            names.setdefault(partition_of(THIEF, f"t{number}", PARTITIONS), f"t{number}")
        self.partitions = sorted(names)[:2]
        for partition in self.partitions:
            thread = threading.Thread(target=self._send, args=(names[partition],))
            thread.start()
            self._threads.append(thread)

    def _send(self, instance: str) -> None:
        with Trail.from_env(THIEF, settings=self.settings, instance=instance, batch_ms=50) as trail:
            while not self._stop.wait(0.05):
                trail.emit(
                    "stolen.step",
                    event_type=EventType.TRANSFORM,
                    outputs=[EntityRef("stolen", instance)],
                )
                self.sent[instance] = self.sent.get(instance, 0) + 1
            trail.flush(60)

    def stop(self) -> None:
        """And wait until the brokers have all that it sent."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@dataclass
class Scenario:
    """One run."""

    team: Team
    settings: ProducerSettings
    figures: dict[str, Any] = field(default_factory=dict)
    acts: int = 0

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline's processes."""
        return self.team.pipeline

    def keys(self, *arguments: str, expect: int = 0) -> Any:
        """A `sealtrail keys` command; its answer."""
        answer = self.pipeline.sealtrail("keys", *arguments, "--json", expect=expect)
        return json.loads(answer.splitlines()[-1])

    def wait(self, what: str, done: Callable[[], Any], timeout_s: float = 300) -> float:
        """Wait until something holds; seconds that it took."""
        began = time.monotonic()
        while not done():
            self.team.keep_alive()
            if time.monotonic() - began > timeout_s:
                raise Failed(f"{what}: not after {timeout_s} s")
            time.sleep(0.1)
        return time.monotonic() - began

    def signed_by(self, fingerprint: str) -> int:
        """Chains in which readers see batches of a key."""
        return self.pipeline.number(
            "SELECT uniqExact(chain_id) FROM committed_batches "
            f"WHERE has(signers, toFixedString(unhex('{fingerprint}'), 32))"
        )

    def _all_chains_by(self, fingerprint: str) -> bool:
        return self.signed_by(fingerprint) == PARTITIONS

    def rotate(self, times: int) -> None:
        """Give the honest producer new keys while it sends; all its chains must take each."""
        took = []
        for number in range(times):
            (begins, _) = self.keys("rotate", "--producer", PRODUCER, "--overlap", str(OVERLAP_S))
            self.acts += 1
            fresh = begins["fingerprint"]
            took.append(self.wait("new key", partial(self._all_chains_by, fresh)))
            self.team.say(f"rotation {number + 1}: all chains sign anew after {took[-1]:.1f} s")
        self.figures["rotations"] = times
        self.figures["all_chains_on_the_new_key_s"] = [round(t, 2) for t in took]

    def revoke(self, thief: Thief, tail_s: float) -> None:
        """Declare the stolen key COMPROMISED, and try to bring it back."""
        (key,) = [k for k in self.keys("list") if k["producer"] == THIEF]
        fingerprint = key["fingerprint"]
        old = self._on_topic(fingerprint)[-1][0]
        self.wait("stolen events", lambda: self.signed_by(fingerprint) == 2)
        self.keys("revoke", fingerprint, "--reason", "COMPROMISED")
        self.acts += 1
        revocation, published = self._on_topic(fingerprint)[-1]
        visible = self.wait("refusals", lambda: self._refused_in() == len(thief.partitions))
        self.team.say(f"revoked: readers see refusals in both partitions after {visible:.1f} s")
        end = time.monotonic() + tail_s
        while time.monotonic() < end:
            # Whoever may write to the topic tries to bring the key back.
            properties = kafka.config(self.settings, OPERATOR)
            again = [(fingerprint.encode(), old), (fingerprint.encode(), b"")]
            kafka.publish(properties, self.settings.keys_topic, again)
            self.team.rest(1)
        thief.stop()
        self._judge_revocation(fingerprint, revocation, published, thief)
        self.figures["refusals_visible_s"] = round(visible, 2)

    def _on_topic(self, fingerprint: str) -> list[tuple[bytes, int]]:
        """(value, microseconds) of a key's records on the topic."""
        properties = kafka.config(self.settings, OPERATOR)
        found = kafka.read_all(properties, self.settings.keys_topic)
        return [(value, at) for key, value, at in found if key == fingerprint.encode()]

    def _refused_in(self) -> int:
        return self.pipeline.number(
            "SELECT uniqExact(partition) FROM committed_dispositions "
            "WHERE code = 'KEY_REVOKED' AND endsWith(detail, ' is compromised')"
        )

    def _events_refused(self, which: str) -> int:
        """How many events are in refused messages; the CLOSE of a chain has none."""
        rows = self.pipeline.sql(f"SELECT hex(value) AS v FROM committed_quarantine WHERE {which}")
        envelopes = (SignedBatch.decode(unframe(bytes.fromhex(row["v"]))[1]) for row in rows)
        return sum(len(envelope.events) for envelope in envelopes)

    def _judge_revocation(
        self, fingerprint: str, revocation: bytes, published: int, thief: Thief
    ) -> None:
        number = self.pipeline.number
        mine = f"has(signers, toFixedString(unhex('{fingerprint}'), 32))"
        gone = f"code = 'KEY_REVOKED' AND startsWith(detail, 'key {fingerprint[:16]} ')"
        accepted = f"SELECT sum(count) FROM committed_batches WHERE {mine}"
        sent = sum(thief.sent.values())
        refused = partial(self._events_refused, gone)
        self.wait(f"{sent} stolen events", lambda: refused() + number(accepted) >= sent, 300)
        micros = "toUnixTimestamp64Micro"
        known = number(
            f"SELECT {micros}(min(arrival)) FROM key_records "
            f"WHERE record_value = unhex('{revocation.hex()}')"
        )
        last = number(f"SELECT {micros}(max(arrival)) FROM committed_batches WHERE {mine}")
        first = number(
            f"SELECT max(first) FROM (SELECT {micros}(min(arrival)) AS first "
            f"FROM committed_dispositions WHERE {gone} GROUP BY partition)"
        )
        report = self.keys("exposure", fingerprint, expect=1)
        (event,) = self.pipeline.sql(
            "SELECT event_id FROM provenance.events WHERE activity = 'stolen.step' "
            "ORDER BY arrival LIMIT 1"
        )
        shown = json.loads(
            self.pipeline.sealtrail("event", "show", event["event_id"], "--json").splitlines()[-1]
        )
        counts = {name: report[name]["events"] for name in ("before", "exposed")}
        self.figures["revocation"] = {
            "stolen_sent": sent,
            "accepted": number(accepted),
            "refused": refused(),
            "in_force_after_s": round((first - published) / 1e6, 3),
            "last_accepted_after_s": round((last - published) / 1e6, 3),
            "accepted_after_it_was_known": number(
                f"SELECT count() FROM committed_batches WHERE {mine} "
                f"AND {micros}(arrival) >= {known}"
            ),
            "exposure": counts,
            "old_event_verifies": shown[0]["proof"]["verified"],
        }
        said = self.figures["revocation"]
        said["ok"] = (
            said["accepted_after_it_was_known"] == 0
            and said["refused"] > 0
            and said["refused"] + said["accepted"] == sent
            and said["in_force_after_s"] <= GOAL_S
            and said["last_accepted_after_s"] <= GOAL_S
            and sum(counts.values()) == said["accepted"]
            and report["refused"]["messages"] > 0
            and said["old_event_verifies"]
        )
        self.team.say(f"in force after {said['in_force_after_s']} s: {said['refused']} refused")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole scenario; figures of it."""
    pace = {"SEALTRAIL_PACE_BYTES": "1500000"} if options.embedded else {}
    with Pipeline(SETTINGS | pace, brokers=0 if options.embedded else 1) as pipeline:
        pipeline.sealtrail("keys", "setup-dev", "--producer", THIEF)
        team = Team(pipeline, PARTITIONS, random.Random(1))
        for _ in range(WORKERS):
            team.join()
        team.settled(600)
        scenario = Scenario(team, load(ProducerSettings, pipeline.env))
        thief = Thief(scenario.settings)
        hurry = pipeline.folder / "hurry"
        # It ends with the scenario: more events than it can send in that time.
        feeder = pipeline.feeder(
            ",".join(instances(PARTITIONS)), options.events, options.rate, hurry
        )
        thief.start()
        try:
            scenario.wait("honest chains", lambda: pipeline.committed() > 0)
            scenario.rotate(options.rotations)
            scenario.revoke(thief, options.tail)
        finally:
            with contextlib.suppress(Exception):
                thief.stop()
        hurry.touch()
        sent = verdict.sent([feeder])
        return judged(scenario, sent, options)


def judged(scenario: Scenario, sent: dict[str, int], options: argparse.Namespace) -> dict[str, Any]:
    """The honest producer's events, with what the thief got in and the control chain said."""
    stolen = scenario.figures["revocation"]["accepted"]
    total = {
        # Each act is two events, of which the second names the first.
        "events": sent["events"] + stolen + 2 * scenario.acts,
        "links": sent["links"] + scenario.acts,
    }
    scenario.wait("drained", lambda: scenario.pipeline.committed() >= total["events"], 300)
    scenario.wait("read to the end", lambda: not conservation.behind(scenario.pipeline.folder), 300)
    figures = verdict.judge(scenario.pipeline, total)
    chains = scenario.pipeline.sql(
        "SELECT uniqExact(chain_id) AS chains, uniqExact(signers) AS keys FROM committed_batches "
        f"WHERE producer = '{PRODUCER}'"
    )
    count, keys = (int(chains[0][name]) for name in ("chains", "keys"))
    figures |= scenario.figures
    # The thief's chains are cut off: nothing else may be found.
    strange = set(figures["findings"]) - {"KEY_REVOKED", "STALLED_CHAIN"}
    figures["chains_of_the_honest"] = count
    figures["keys_of_the_honest"] = keys
    figures["kafka"] = "embedded" if options.embedded else "Apache Kafka 4.4.0, one broker"
    figures["seconds"] = round(time.monotonic() - scenario.team.began, 1)
    figures["ok"] = (
        figures["lost"] == figures["doubled"] == figures["batches_out_of_order"] == 0
        and figures["links_verified"] == total["links"]
        and not strange
        and not figures["conservation_differences"]
        and figures["audit"]["clean"]
        and (count, keys) == (PARTITIONS, options.rotations + 1)
        and figures["revocation"]["ok"]
    )
    return figures


def main(args: list[str]) -> int:
    """Run with the options given."""
    parser = argparse.ArgumentParser(prog="make keys-test")
    parser.add_argument("--rotations", type=int, default=3)
    parser.add_argument("--tail", type=float, default=15.0)
    parser.add_argument("--events", type=int, default=5_000, help="of each of the four chains")
    parser.add_argument("--rate", type=float, default=40.0, help="events a second of each chain")
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args(args)
    if options.short:
        options.rotations, options.tail, options.events, options.rate = 1, 5.0, 2_000, 8.0
    return verdict.main(run, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
