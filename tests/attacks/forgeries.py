"""`make forgeries`: seeded forgeries hidden in honest events; each found and named, nothing else?

Honest services emit through the SDK in processes of their own; somebody at the topic plays attacks
of tests/attacks in an order that the seed gives, spread over the whole run. At the end an auditor
is given forged proofs of what was stored, and rows and parts of the store are edited, dropped and
harmed as files. Every forged message must have met its fate, every finding that it earns must be
there, the verifier must refuse every proof, the audit must name every row and part, and nothing
else may be flagged. Each row of the catalogue's groups A to D and F must be among them unless it
waits for a part of the system that does not exist.

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
from typing import TYPE_CHECKING, Any, Self

from tests.attacks import edits, harm, parts, proofs, tally
from tests.attacks.play import ATTACKS as IN_ONE_SCENE
from tests.attacks.played import Played, look, played_out, said
from tests.attacks.registry import ENTERED
from tests.crash.harness import HERE
from tests.scenarios import conservation
from tests.scenarios.chains import event
from tests.scenarios.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.attacks.registry import Attack

    # An attack's name, and what it does later.
    Rest = tuple[str, Iterator[None]]

FEEDERS = 4
PRODUCER = "load"
# Of which `some_bits_of_a_message` takes a sample.
LEFT_OUT = {"every_bit_of_a_message"}
ATTACKS: dict[str, Attack] = {
    name: attack
    for name, attack in ENTERED.items()
    if (name in IN_ONE_SCENE or attack.__module__ == harm.__name__) and name not in LEFT_OUT
}
# Their second parts end the worker, and come last.
DEADLY = ("message_that_kills", "worker_without_its_memory")
# These can be played once, or would take too long.
ONCE = {
    *DEADLY,
    "unknown_key",
    "key_retired",
    "key_compromised",
    "released_by_hand",
    "schema_that_hurts",
    "weak_key",
    "batch_that_inflates",
    "clock_of_the_worker_is_set",
}
# Of the forgeries so many are edits of stored rows and parts,
EDITS_PART = 10
# and of the edits so many parts are harmed in each way (dropped, removed, cut, exchanged).
WAYS_PART = 25
# Events about which an auditor is given forged proofs.
PROVEN_PART = 400
# One takes about half a second to play, and all of them once are so many; those that stop the
# worker take longer. Honest events keep pace, so that all are hidden in them,
FORGERY_S, AT_LEAST, SLOW_S = 0.5, 450, 400
# Second parts are played after so long, or at the end: what was signed longer before than
# SEALTRAIL_BEHIND_TOLERANCE_S is said to be late, and rightly.
LATER_S = 240
# and some are left for what comes after the windows.
FIRST_PART = 0.85
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            with process:
                if process.poll() is None:
                    process.kill()

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
    return tally.named(scene).total()


def play(scene: Scene, honest: Honest, count: int, seed: int) -> float:
    """Forge until it is enough and all was played; how much of the honest traffic had come then."""
    rng = scene.rng = random.Random(seed)
    names = [*ATTACKS]
    rng.shuffle(names)
    later: list[Rest] = []
    played = time.monotonic()
    while names or forgeries(scene) < count:
        share = min(forgeries(scene) / count, 1 - len(names) / len(ATTACKS))
        while honest.alive() and stored(scene) < FIRST_PART * share * honest.events:
            time.sleep(1)
        name = names.pop() if names else rng.choice([n for n in ATTACKS if n not in ONCE])
        _first_part(scene, name, later)
        if time.monotonic() - played > LATER_S:
            _second_parts(scene, [rest for rest in later if rest[0] not in DEADLY])
            later = [rest for rest in later if rest[0] in DEADLY]
            played = time.monotonic()
    _second_parts(scene, sorted(later, key=lambda rest: rest[0] in DEADLY))
    scene.wait("the last forgery", scene.caught_up)
    hidden = stored(scene) / honest.events
    honest.end()
    played_out(scene)
    return hidden


def _first_part(scene: Scene, name: str, later: list[Rest]) -> None:
    """Play an attack as far as it goes now; what it does later goes to the others of these."""
    scene.attack = name
    rest = ATTACKS[name](scene)
    if rest is not None:
        next(rest)
        later.append((name, rest))
    scene.flush()


def _second_parts(scene: Scene, later: Iterable[Rest]) -> None:
    """Play these, once all is found that was to be found by then."""
    said(scene)
    for name, rest in later:
        scene.attack = name
        assert next(rest, "ended") == "ended", name
        scene.flush()


def small_parts(scene: Scene, count: int) -> None:
    """Leave so many small parts of each table unmerged."""
    scene.attack = ""
    parts.merges(conservation.variables(scene.folder), "STOP")
    for number in range(count):
        cause = scene.chain("orders", number % 4).make(2)
        effect = scene.chain("billing", number % 4).make([event([cause.reference()])])
        scene.accept(cause)
        scene.accept(effect)
        scene.flush()
        scene.wait("a small part", scene.caught_up)


def judge(seen: Played) -> dict[str, Any]:
    """What was found of what was forged on the way, and what was found besides."""
    names = {s.attack for s in seen.scene.sent}
    missed = [problem for name in names for problem in seen.wrong(name)]
    false = seen.flagged_wrongly()
    return {
        "forgeries": forgeries(seen.scene),
        "missed": missed[:10],
        "found": forgeries(seen.scene) - len(missed),
        "false": len(false),
        "false_ones": false[:10],
        "attacks": len(names - {""}),
        "conservation": [str(d) for d in seen.conservation.differences[:10]],
        "audit_before_edits": len(seen.audit["findings"]),
        "offsets": seen.conservation.consumed,
    }


def at_rest(scene: Scene, count: int, seed: int) -> dict[str, Any]:
    """Harm parts and edit rows, so many in all, and audit; figures."""
    each = max(1, count // WAYS_PART)
    settings = conservation.variables(scene.folder)
    gone = parts.drop(settings, each)
    gone += parts.harm_files(scene.stack, each, gone)
    return edits.run(
        scene.folder,
        count - len(gone),
        seed,
        gone,
        lambda: scene.ask("audit", "store", codes=(1,), timeout_s=3600),
    )


def run(events: int, count: int, seed: int) -> tuple[dict[str, Any], tally.Table]:
    """The whole run: its figures, and the rows of the catalogue."""
    edited = max(count // EDITS_PART, 2 + len(parts.FILES))
    began = time.monotonic()
    with Scene.begin() as scene:
        scene.start_worker()
        with Honest(scene, events, max(count, AT_LEAST) * FORGERY_S + SLOW_S) as honest:
            hidden = play(scene, honest, count - edited, seed)
        say(f"{honest.events} honest events sent in {time.monotonic() - began:.0f} s")
        say(f"{hidden:.0%} of them were stored when the last forgery was judged")
        scene.wait("all honest events", lambda: stored(scene) == honest.events, 600)
        small_parts(scene, 8 * max(1, edited // WAYS_PART))
        seen = look(scene)
        figures, table = judge(seen), tally.of_played(seen)
        say(f"on the way: {figures['found']} of {figures['forgeries']}, {figures['false']} false")
        proven = proofs.give(scene, PRODUCER, max(1, count // PROVEN_PART), seed)
        say(f"proofs: {proven['refused']} of {proven['forged']} refused")
        edit = at_rest(scene, edited, seed)
    say(f"at rest: {edit['located']} of {edit['edits']} edits named")
    count_at_rest(table, proven, edit)
    shown = ("edits", "located", "false", "missed", "not_ours", "kinds", "codes", "audit_seconds")
    false = edit["false"] + figures["audit_before_edits"] + len(proven["honest_refused"])
    figures |= {
        "at_rest": {k: edit[k] for k in shown},
        "proofs": proven,
        "seed": seed,
        "honest_events": honest.events,
        "honest_stored_once": edit["events"] >= honest.events,
        "hidden_until": round(hidden, 3),
        "forgeries": figures["forgeries"] + edit["edits"] + proven["forged"],
        "found": figures["found"] + edit["located"] + proven["refused"],
        "false": figures["false"] + false,
        "rows": tally.figures(table),
        "rows_lacking": tally.lacking(table),
        "seconds": round(time.monotonic() - began),
    }
    return figures, table


def count_at_rest(table: tally.Table, proven: Mapping[str, Any], edit: Mapping[str, Any]) -> None:
    """Rows edited and parts dropped are F1, files of parts F2, proofs F8."""
    files = [f"part {kind}" for kind in parts.FILES]
    there = sum(edit["parts"].get(kind, 0) for kind in files)
    missed = sum(edit["parts_missed"].get(kind, 0) for kind in files)
    others = edit["edits"] - there
    lacking = edit["edits"] - edit["located"] - missed
    table["F1"] = tally.Count(others, others - lacking, _codes(edit, files, inside=False))
    table["F2"] = tally.Count(there, there - missed, _codes(edit, files, inside=True))
    table["F8"] = tally.Count(proven["forged"], proven["refused"], Counter(proven["kinds"]))


def _codes(edit: Mapping[str, Any], files: list[str], *, inside: bool) -> Counter[str]:
    """What edits are found as, with what was done; of parts harmed as files, or of all others."""
    codes: Counter[str] = Counter()
    for name, number in edit["kinds"].items():
        if (name in files) == inside:
            kind = name if name.startswith("part ") else name.partition(" ")[0]
            codes[f"{edits.CODES.get(kind, 'ROW_MISSING')} ({kind})"] += number
    return codes


def say(text: str) -> None:
    """A line for people."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run and print."""
    events, count, seed = [*map(int, arguments), *(1_000_000, 1_000, 1)[len(arguments) :]]
    figures, table = run(events, count, seed)
    for row, attack, became in tally.lines(table):
        say(f"{row:4}{attack}\n{'':8}{became}")
    say(json.dumps(figures))
    wrong = figures["false"] or figures["conservation"] or figures["rows_lacking"]
    return int(bool(wrong) or not figures["found"] == figures["forgeries"] >= count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
