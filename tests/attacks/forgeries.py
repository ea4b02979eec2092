"""`make forgeries`: seeded forgeries hidden in honest events; each found and named, nothing else?

Honest services emit through the SDK in processes of their own; somebody at the topic plays attacks
of tests/attacks in an order that the seed gives, spread over the whole run; at the end rows of the
store are edited as well. Every forged message must have met its fate, every finding that it earns
must be there, the audit must name every edited row, and nothing else may be flagged.

Options: EVENTS FORGERIES SEED (default 1000000 1000 1). Ends with one line of JSON; exit status 1
unless all were found and no false alarm was given.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.attacks import edits
from tests.attacks.play import ATTACKS
from tests.attacks.played import Played, look, played_out
from tests.attacks.registry import ROWS
from tests.crash.harness import HERE
from tests.scenarios import conservation
from tests.scenarios.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

FEEDERS = 4
PRODUCER = "load"
# These can be played once.
ONCE = {
    "unknown_key",
    "key_retired",
    "key_compromised",
    "released_by_hand",
    "schema_that_hurts",
    "weak_key",
}
# A flood by itself, of which there are samples; and one that starts the worker anew.
LEFT_OUT = {"every_bit_of_a_message", "worker_without_its_memory"}
# Of the forgeries so many are edits of stored rows.
EDITS_PART = 10
# One takes about half a second to play; honest events keep pace, so that all are hidden in them.
FORGERY_S = 0.5
# Of each feeder: all four may write to one partition, of which the embedded broker keeps 5 MB.
PACE_BYTES = 1_000_000


class Honest:
    """Services that emit, and how many events they have sent.

    Args:
        scene: where.
        events: how many in all.
        seconds: about how long they take, unless told to hurry.
    """

    def __init__(self, scene: Scene, events: int, seconds: float) -> None:
        scene.run("keys", "setup-dev", "--producer", PRODUCER)
        each = events // FEEDERS
        self.events = each * FEEDERS
        self._hurry = scene.folder / "hurry"
        env = scene.stack.env | {
            "SEALTRAIL_PACE_BYTES": str(PACE_BYTES),
            "SEALTRAIL_CLOSE_S": "600",
        }
        feeder = [sys.executable, str(HERE / "feeder.py"), PRODUCER]
        paced = [str(each), str(each / seconds), str(self._hurry)]
        self.processes = [
            subprocess.Popen([*feeder, f"honest-{n}", *paced], env=env, stdout=subprocess.PIPE)
            for n in range(FEEDERS)
        ]

    def alive(self) -> bool:
        """Whether one still emits."""
        return any(p.poll() is None for p in self.processes)

    def end(self) -> None:
        """Wait until all have sent everything, as fast as they can."""
        self._hurry.touch()
        for process in self.processes:
            process.communicate(timeout=7200)
            assert process.returncode == 0, f"a feeder ended with {process.returncode}"


def stored(scene: Scene) -> int:
    """Honest events that readers see."""
    query = f"SELECT count() AS n FROM provenance.events WHERE producer = '{PRODUCER}'"
    return int(conservation.query(conservation.variables(scene.folder), query)[0]["n"])


def forgeries(scene: Scene) -> int:
    """How many were played: messages that must be refused or dropped, and findings on others."""
    refused = {id(s) for s in scene.sent if s.disposition.value != "accepted"}
    others = [e for e in scene.expected if id(e.sent) not in refused]
    beats = sum(s.disposition.value == "heartbeat" for s in scene.sent)
    return len(refused) - beats + len(others)


def play(scene: Scene, honest: Honest, count: int, seed: int) -> None:
    """Forge until it is enough, spread over the honest traffic."""
    rng = random.Random(seed)
    names = [n for n in ATTACKS if n not in LEFT_OUT]
    rng.shuffle(names)
    later: list[tuple[str, Iterator[None]]] = []
    while forgeries(scene) < count:
        share = forgeries(scene) / count
        while honest.alive() and stored(scene) < share * honest.events:
            time.sleep(1)
        name = (
            names.pop() if names else rng.choice([n for n in ATTACKS if n not in LEFT_OUT | ONCE])
        )
        scene.attack = name
        rest = ATTACKS[name](scene)
        if rest is not None:
            next(rest)
            later.append((name, rest))
        scene.flush()
    honest.end()
    played_out(scene)
    for name, rest in later:
        scene.attack = name
        assert next(rest, "ended") == "ended", name
        scene.flush()
    played_out(scene)


def judge(seen: Played) -> dict[str, Any]:
    """What was found of what was forged on the way, and what was found besides."""
    names = {s.attack for s in seen.scene.sent}
    missed = [problem for name in names for problem in seen.wrong(name)]
    false = seen.flagged_wrongly()
    codes = Counter(e.code.value for e in seen.scene.expected)
    fates = Counter(s.disposition.value for s in seen.scene.sent)
    codes["duplicate"] = fates["duplicate"]
    return {
        "forgeries": forgeries(seen.scene),
        "missed": missed[:10],
        "found": forgeries(seen.scene) - len(missed),
        "false": len(false),
        "false_ones": false[:10],
        "attacks": len(names),
        "rows": len({row for name in names for row in ROWS[name]}),
        "codes": dict(sorted(codes.items())),
        "conservation": [str(d) for d in seen.conservation.differences[:10]],
        "audit_before_edits": len(seen.audit["findings"]),
        "offsets": seen.conservation.consumed,
    }


def run(events: int, count: int, seed: int) -> dict[str, Any]:
    """The whole run; its figures."""
    edited = count // EDITS_PART
    began = time.monotonic()
    with Scene.begin() as scene:
        scene.start_worker()
        honest = Honest(scene, events, count * FORGERY_S)
        play(scene, honest, count - edited, seed)
        say(f"{honest.events} honest events sent in {time.monotonic() - began:.0f} s")
        scene.wait("all honest events", lambda: stored(scene) == honest.events, 600)
        figures = judge(look(scene))
        say(f"on the way: {figures['found']} of {figures['forgeries']}, {figures['false']} false")
        at_rest = edits.run(
            scene.folder,
            edited,
            seed,
            0,
            lambda: scene.ask("audit", "store", codes=(1,), timeout_s=3600),
        )
    say(f"at rest: {at_rest['located']} of {at_rest['edits']} edits named")
    figures["at_rest"] = {
        k: at_rest[k] for k in ("edits", "located", "false", "missed", "not_ours", "audit_seconds")
    }
    return figures | {
        "seed": seed,
        "honest_events": honest.events,
        "honest_stored_once": at_rest["events"] >= honest.events,
        "forgeries": figures["forgeries"] + at_rest["edits"],
        "found": figures["found"] + at_rest["located"],
        "false": figures["false"] + at_rest["false"] + figures["audit_before_edits"],
        "seconds": round(time.monotonic() - began),
    }


def say(text: str) -> None:
    """A line for people."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run and print."""
    events, count, seed = [*map(int, arguments), *(1_000_000, 1_000, 1)[len(arguments) :]]
    figures = run(events, count, seed)
    for code, number in figures["codes"].items():
        say(f"{number:6}  {code}")
    say(json.dumps(figures))
    wrong = figures["false"] or figures["conservation"]
    return int(bool(wrong) or not figures["found"] == figures["forgeries"] >= count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
