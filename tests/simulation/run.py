"""`make simulate SEEDS=10000`: that many simulated worlds, each of which must end lawfully.

Then each planted mistake must be found; how many seeds that took is printed. A seed that fails is
shrunk to a short trace. Ends with one line of JSON; exit status 1 when a seed fails or a mistake is
not found.

Options: SEEDS FIRST PROCESSES. One seed: `python -m tests.simulation.run 1 SEED`.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.simulation.crypto import cheap_signatures
from tests.simulation.laws import violations
from tests.simulation.planted import PLANTED
from tests.simulation.tape import Tape, shrink
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# Seeds in which a planted mistake must show itself.
MOST_SEEDS = 2_000
MEMORY_DISK = Path("/dev/shm")
TRACE_LINES = 60
CHUNK = 100
RAISED = "RAISED:"


@dataclass
class Outcome:
    """One run."""

    broken: list[str]
    numbers: list[int]
    trace: list[str] = field(default_factory=list)
    events: int = 0
    faults: int = 0
    recalled: int = 0
    dropped: int = 0


def held(seed: int) -> int:
    """How many chains of a partition a worker holds: in every third world hardly any."""
    return 10_000 if seed % 3 else 1


def simulate(tape: Tape, folder: Path, most: int = 10_000) -> Outcome:
    """Run one world; the folder is emptied before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    world = World(tape, folder, most)
    try:
        world.run()
        broken = violations(world)
    except Exception as error:  # noqa: BLE001 - whatever the product raises is what is looked for
        broken = [f"{RAISED} {type(error).__name__}: {error}"]
    finally:
        for service in world.services:
            service.crash()
    events = sum(len(service.promised) for service in world.services)
    recalled, dropped = world.held.recalled, world.dropped
    return Outcome(broken, tape.numbers, world.trace, events, len(world.trace), recalled, dropped)


def folder_for(name: str) -> Path:
    """A folder on a memory disk where there is one."""
    root = MEMORY_DISK if MEMORY_DISK.is_dir() else Path(tempfile.gettempdir())
    return Path(tempfile.mkdtemp(prefix=f"sealtrail-simulate-{name}-", dir=root))


def minimal(numbers: Sequence[int], folder: Path, most: int = 10_000) -> Outcome:
    """The simplest run that still breaks the same law."""
    law = _law(simulate(Tape(given=numbers), folder, most).broken)

    def fails(candidate: Sequence[int]) -> bool:
        return _law(simulate(Tape(given=candidate), folder, most).broken) == law

    return simulate(Tape(given=shrink(numbers, fails)), folder, most)


def _law(broken: Sequence[str]) -> str:
    return broken[0].split()[0] if broken else ""


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines of thousands of failing worlds; whoever logs afterwards in this process may."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@dataclass
class Sum:
    """Of some runs: their events, what went wrong in them, and those that fail.

    recalling, dropping: worlds that recalled evicted chains, and such that dropped messages which
    a rebalance had taken away.
    """

    seeds: int = 0
    events: int = 0
    faults: int = 0
    recalling: int = 0
    dropping: int = 0
    failed: list[tuple[int, str]] = field(default_factory=list)

    def add(self, seed: int, done: Outcome) -> None:
        """One run more."""
        self.seeds += 1
        self.events += done.events
        self.faults += done.faults
        self.recalling += bool(done.recalled)
        self.dropping += bool(done.dropped)
        if done.broken:
            self.failed.append((seed, done.broken[0]))

    def __iadd__(self, other: Sum) -> Self:
        self.seeds += other.seeds
        self.events += other.events
        self.faults += other.faults
        self.recalling += other.recalling
        self.dropping += other.dropping
        self.failed += other.failed
        return self


def seeds(first: int, count: int) -> Sum:
    """Run some seeds."""
    found = Sum()
    folder = folder_for(str(first))
    try:
        with quiet(), cheap_signatures():
            for seed in range(first, first + count):
                found.add(seed, simulate(Tape(seed), folder, held(seed)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def explain(seed: int) -> str:
    """The short trace of a failing seed."""
    folder = folder_for("shrink")
    try:
        with quiet(), cheap_signatures():
            done = simulate(Tape(seed), folder, held(seed))
            small = minimal(done.numbers, folder, held(seed))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lines = [f"  {line}" for line in small.trace[:TRACE_LINES]]
    lines += [f"  => {text}" for text in small.broken[:10]]
    return "\n".join((f"seed {seed}, {len(small.numbers)} choices left:", *lines))


def find(name: str, first: int) -> dict[str, Any]:
    """Plant a mistake and look for it; seeds that it took, and what it looks like."""
    folder = folder_for("planted")
    try:
        with quiet(), cheap_signatures(), PLANTED[name]():
            for number in range(MOST_SEEDS):
                seed = first + number
                done = simulate(Tape(seed), folder, held(seed))
                # What raises at once was no law that noticed: the patch may not fit any more.
                if done.broken and _law(done.broken) != RAISED:
                    small = minimal(done.numbers, folder, held(seed))
                    return {
                        "mistake": name,
                        "seeds": number + 1,
                        "choices": len(small.numbers),
                        "broken": small.broken[0],
                        "trace": small.trace,
                    }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"mistake": name, "seeds": None}


def main(args: list[str]) -> int:
    """Run with the options given."""
    count, first, processes = [*map(int, args), *(1_000, 1, 1)[len(args) :]]
    say = sys.stdout.write
    began = time.monotonic()
    found = Sum()
    chunks = [(at, min(CHUNK, first + count - at)) for at in range(first, first + count, CHUNK)]
    with ExitStack() as opened:
        results: Iterable[Sum]
        if processes > 1:
            pool = opened.enter_context(multiprocessing.get_context("spawn").Pool(processes))
            results = pool.starmap(seeds, chunks)
        else:
            results = (seeds(*chunk) for chunk in chunks)
        for result in results:
            found += result
    seconds = time.monotonic() - began
    say(f"{found.seeds} seeds, {found.events} events, {found.faults} lines of trouble, ")
    say(f"{seconds:.1f} s\n")
    say(f"{found.recalling} worlds recalled chains that they had evicted, ")
    say(f"{found.dropping} dropped messages that a rebalance had taken away\n")
    for seed, text in found.failed[:10]:
        say(f"FAILED seed {seed}: {text}\n")
    for seed, _ in found.failed[:2]:
        say(explain(seed) + "\n")
    planted = [find(name, first) for name in PLANTED] if count >= CHUNK else []
    for one in planted:
        if one["seeds"] is None:
            say(f"NOT FOUND in {MOST_SEEDS} seeds: {one['mistake']}\n")
            continue
        say(f"found after {one['seeds']} seeds: {one['mistake']}: {one['broken']}\n")
        for line in one["trace"][:12]:
            say(f"    {line}\n")
    took = {one["mistake"]: one["seeds"] for one in planted if one["seeds"]}
    figures = {
        "seeds": found.seeds,
        "failed": len(found.failed),
        "planted": len(planted),
        "planted_found": len(took),
        "seeds_to_find": took,
        "events": found.events,
        "recalling": found.recalling,
        "dropping": found.dropping,
        "seconds": round(seconds, 1),
        "seeds_per_minute": round(found.seeds / seconds * 60),
        "first_failed": [seed for seed, _ in found.failed[:10]],
    }
    say(json.dumps(figures) + "\n")
    return int(bool(found.failed) or len(took) < len(planted))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
