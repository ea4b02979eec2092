"""`make mutations MESSAGES=10000000`: mutated messages through validation, steps 1 to 9.

A message counts when something that is signed was changed: those in which only hints differ
(framing, event_schema_id, disclosures, docs/wire-format.md) are told apart, and must give the rows
of the honest message. Everything else must be refused, by a finding of the closed list; nothing may
raise, and memory must not grow.

Options: MESSAGES PROCESSES SEED MINUTES (0: no limit; else what was done by then counts). Prints
what was found, and ends with one line of JSON; exit status 1 when anything was accepted, raised or
grew. What raised is kept in tests/fuzz/crashes.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil
from tests.contract import mutations as m
from tests.contract import world as w
from tests.fuzz import mutate

from sealtrail import records
from sealtrail.batch import SignedBatch
from sealtrail.errors import ContractError
from sealtrail.keys import PublicKey
from sealtrail.validate import Refused, VerifiedBatch, VerifiedHeartbeat, validate

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

CRASHES = Path(__file__).with_name("crashes")
# Messages from one seed: what a crash of the interpreter is narrowed down to.
BLOCK = 5_000
# How much a process may hold in the end beyond what it held after its first blocks.
MOST_GROWTH = 24 * 2**20
WARM_BLOCKS = 4


@dataclass
class Tally:
    """What became of some messages. rss: bytes in memory after each tenth of the work."""

    counted: int = 0
    hints_only: int = 0
    accepted: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    rss: list[int] = field(default_factory=list)


class Mill:
    """Makes messages and judges them.

    Signatures that were found to hold are remembered: most mutants keep an honest one, and what an
    exact function said once of the same bytes it says again. What does not hold is always computed.
    """

    def __init__(self) -> None:
        remember_verified()
        self.known = records.Directory(w.ROOT)
        for arrival, value in m.record_values():
            # One of them is signed by a stranger, and refused.
            with contextlib.suppress(ContractError):
                self.known.add(value, arrival)
        self.tally = Tally()

    def block(self, seed: int, number: int, most: int) -> None:
        """Count so many messages of one seed."""
        rng = random.Random(f"{seed}/{number}")
        done = self.tally.counted + most
        while self.tally.counted < done:
            value = mutate.message(rng)
            try:
                outcome = validate(value, w.PLACE, m.ARRIVAL, self.known)
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                self._crashed(value or b"", error)
                continue
            if isinstance(outcome, Refused):
                self.tally.counted += 1
                self.tally.codes[f"{outcome.code} {outcome.step}"] += 1
            elif same(value or b"", outcome):
                self.tally.hints_only += 1
            else:
                self.tally.counted += 1
                self.tally.accepted.append((value or b"").hex()[:4000])

    def _crashed(self, value: bytes, error: Exception) -> None:
        self.tally.counted += 1
        name = sha256(value).hexdigest()[:16]
        CRASHES.mkdir(exist_ok=True)
        (CRASHES / f"validate-{name}.bin").write_bytes(value)
        self.tally.crashes.append(f"{name}: {type(error).__name__}: {error}")


def same(value: bytes, outcome: VerifiedBatch | VerifiedHeartbeat) -> bool:
    """Whether all that is signed of an accepted message is an honest one's, to the byte."""
    envelope = SignedBatch.decode(value[5:])
    if isinstance(outcome, VerifiedBatch):
        must = replace(outcome, envelope=replace(envelope, disclosures=()))
        if replace(outcome, envelope=replace(outcome.envelope, disclosures=())) != must:
            return False
    return _signed(envelope) in honest()


def _signed(envelope: SignedBatch) -> tuple[Any, ...]:
    return envelope.payload_type, envelope.statement, envelope.signatures, envelope.events


@cache
def remember_verified() -> None:
    """Let a public key know the signatures that it has verified already."""
    verify, verified = PublicKey.verify, set[tuple[bytes, bytes, bytes]]()

    def remembering(self: PublicKey, signature: bytes, message: bytes) -> None:
        pair = self.fingerprint, signature, message
        if pair not in verified:
            verify(self, signature, message)
            verified.add(pair)

    PublicKey.verify = remembering  # type: ignore[method-assign]  # in this process of a test


@cache
def honest() -> set[tuple[Any, ...]]:
    """The signed parts of all messages that `mutations.honest` can give; each was signed once."""
    rng = random.Random(0)
    also = [m.sealed(m.whole(n)[1], tuple(m.EVENTS[:n])) for n in (1, 2, 3)]
    return {_signed(m.honest(rng)) for _ in range(20_000)} | set(map(_signed, also))


def work(seed: int, blocks: list[tuple[int, int]], at: Any, out: Connection, first: int) -> None:
    """One process: its blocks, and along the way what became of them.

    Args:
        seed: of the run.
        blocks: (number, messages).
        at: shared: the block that it is at.
        out: where the tally goes.
        first: index of this process in `at`.
    """
    mill, process = Mill(), psutil.Process()
    honest()
    for index, (number, most) in enumerate(blocks, 1):
        at[first] = number
        mill.block(seed, number, most)
        if index in (WARM_BLOCKS, len(blocks)) or index * 10 % len(blocks) < 10:
            mill.tally.rss.append(process.memory_info().rss)
        if index * 100 % len(blocks) < 100 or index == len(blocks):
            out.send(mill.tally)
    out.close()


def run(messages: int, processes: int, seed: int, minutes: float) -> dict[str, Any]:
    """The whole run, or so much of it as fits into some minutes (0: no limit); figures of it."""
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    blocks = [(n, min(BLOCK, messages - at)) for n, at in enumerate(range(0, messages, BLOCK))]
    at = context.Array("q", [-1] * processes)
    tallies: dict[int, Tally] = {}
    running: dict[Any, tuple[int, Any]] = {}
    for first in range(processes):
        mine, theirs = context.Pipe(duplex=False)
        arguments = (seed, blocks[first::processes], at, theirs, first)
        process = context.Process(target=work, args=arguments)
        process.start()
        theirs.close()
        running[mine] = (first, process)
    died: list[str] = []
    while running:
        left = max(began + minutes * 60 - time.monotonic(), 0) if minutes else None
        for ready in wait(list(running), left):
            mine = cast("Connection", ready)
            first, process = running[mine]
            try:
                tallies[first] = mine.recv()
            except EOFError:
                process.join()
                del running[mine]
                if process.exitcode != 0:
                    died.append(f"process {first} ended in block {at[first]} of seed {seed}")
        if left == 0:
            break
    for _, process in running.values():
        process.terminate()
        process.join()
    return figures(list(tallies.values()), died, seed, time.monotonic() - began)


def figures(tallies: list[Tally], died: list[str], seed: int, seconds: float) -> dict[str, Any]:
    """What all processes found."""
    codes = sum((t.codes for t in tallies), Counter[str]())
    accepted = [text for t in tallies for text in t.accepted]
    crashes = [text for t in tallies for text in t.crashes] + died
    counted = sum(t.counted for t in tallies)
    growth = [t.rss[-1] - t.rss[0] for t in tallies if t.rss]
    return {
        "messages": counted,
        "crashes": len(crashes),
        "accepted": len(accepted),
        "hints_only": sum(t.hints_only for t in tallies),
        "codes": dict(codes.most_common()),
        "rss_mib": [[round(r / 2**20, 1) for r in t.rss] for t in tallies],
        "growth_mib": [round(g / 2**20, 1) for g in growth],
        "memory_flat": bool(growth) and max(growth) < MOST_GROWTH,
        "seed": seed,
        "processes": len(tallies),
        "seconds": round(seconds, 1),
        "per_second": round(counted / seconds),
        "first_crashes": crashes[:5],
        "first_accepted": accepted[:5],
    }


def main(args: list[str]) -> int:
    """Run with the options given."""
    messages, processes, seed, minutes = [*map(int, args), *(1_000_000, 2, 1, 0)[len(args) :]]
    found = run(messages, processes, seed, minutes)
    say = sys.stdout.write
    say(f"{found['messages']:,} mutated messages in {found['seconds']} s\n")
    for code, count in found["codes"].items():
        name, step = code.split()
        say(f"  {count:>12,}  {name} (step {step})\n")
    say(f"  {found['hints_only']:>12,}  not counted: only unsigned hints differ, rows are equal\n")
    say(f"  {found['accepted']:>12,}  accepted\n  {found['crashes']:>12,}  crashes\n")
    say(f"memory of each process along the way, MiB: {found['rss_mib']}\n")
    good = not found["accepted"] and not found["crashes"] and found["memory_flat"]
    say(json.dumps({"ok": good} | found) + "\n")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
