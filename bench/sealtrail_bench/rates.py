"""Events a second of each variant, in turns.

Each turn: messages are made, the variant's process starts, a feeder sends at most what is consumed;
after a warm-up, committed rows are counted against the clock until the feeder has been at it for so
long. When all is committed the content is compared: as many rows as events sent, and the sum of
their salts (`generator.checksum`). A turn has a topic of its own: links that a variant leaves open
are not the next one's work.

    full        everything on, as it ships                 `workers.full`
    plain       the same, librdkafka instead of Faust      `workers.plain`
    unverified  the same, every batch believed             `workers.unverified`
    unlinked    everything on but links and clocks         `workers.unlinked`
    obvious     a signature a message, row insert          `workers.obvious`
    native      ready Native blocks into a table like `events` without indexes, one connection
"""

from __future__ import annotations

import statistics
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sealtrail.errors import SealtrailError, UnavailableError
from sealtrail_bench import tape, usage
from sealtrail_bench.generator import Made, bodies, checksum, long
from sealtrail_bench.workers import obvious
from sealtrail_producer.ports import Message

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sealtrail_bench.rig import Rig

VARIANTS = ("obvious", "full", "unlinked", "unverified", "plain", "native")
EVENTS = 1024
CHAINS = 32
# Below what the embedded broker keeps of a partition.
WINDOW_BYTES = 4_000_000
NATIVE_ROWS = 65_536
DRAIN_S = 120.0
READY_S = 120.0
SEEN_S = 10.0
# A look takes the store 6 ms: twenty a second were 3 us of each event that a turn counted.
LOOK_S = 0.2


class WrongRowsError(SealtrailError):
    """What is stored is not what was sent."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure: turns, seconds of each after warm-up, all in seconds."""

    rounds: int = 3
    seconds: float = 20.0
    warm_s: float = 5.0
    seed: int = 20261125


@dataclass(slots=True)
class Turn:
    """One turn of a variant: events a second, CPU of each process in us an event, memory in MB."""

    rate: float
    events: int
    cpu_us: dict[str, float] = field(default_factory=dict)
    rss_mb: dict[str, float] = field(default_factory=dict)
    bytes: int = 0


def topics(plan: Plan, variants: tuple[str, ...] = VARIANTS) -> list[str]:
    """Topics that the turns of a plan take: an embedded broker makes them at its start."""
    fed = [variant for variant in variants if variant != "native"]
    return [_topic(variant, n) for n in range(plan.rounds) for variant in fed]


def _topic(variant: str, number: int) -> str:
    return f"bench.{variant}.{number}"


class Rates:
    """Takes turns on one rig.

    Args:
        rig: stack and processes.
        plan: how long.
        say: shows a line on what is going on.
    """

    def __init__(self, rig: Rig, plan: Plan, say: Callable[[str], None]) -> None:
        self._rig = rig
        self._plan = plan
        self._say = say
        self.turns: dict[str, list[Turn]] = {}
        # Guesses of the rate, for the size of a tape; replaced by what was measured.
        self._guess = {"obvious": 3_000.0, "full": 30_000.0, "unverified": 35_000.0}

    def run(self, variants: tuple[str, ...] = VARIANTS) -> None:
        """All rounds; the order of the variants turns with them."""
        for number in range(self._plan.rounds):
            shift = number % len(variants)
            for variant in (*variants[shift:], *variants[:shift]):
                turn = self.turn(variant, number)
                self.turns.setdefault(variant, []).append(turn)
                self._say(f"round {number + 1}, {variant}: {turn.rate:,.0f} events/s")

    def median(self, variant: str) -> float:
        """Events a second, the median of its turns."""
        return statistics.median(turn.rate for turn in self.turns[variant])

    def turn(self, variant: str, number: int) -> Turn:
        """One turn.

        Raises:
            UnavailableError: a process ended, or nothing moves.
            WrongRowsError: the store holds something else than was sent.
        """
        if variant == "native":
            return self._native()
        guess = self._guess.get(variant, self._guess["full"])
        wanted = round(guess * (self._plan.seconds + self._plan.warm_s) * 1.25)
        file = self._rig.folder / "tape"
        topic = _topic(variant, number)
        partitions = self._rig.topic(topic)
        if variant == "obvious":
            _obvious_tape(self._rig, file, self._plan.seed + number, wanted, partitions)
            self._rig.store.command(f"DROP TABLE IF EXISTS sealtrail.{obvious.TABLE}")
            self._rig.store.command(obvious.CREATE)
            turn = self._fed(variant, topic, file, wanted)
        else:
            self._rig.authorise(topic)
            batches = max(wanted // EVENTS, CHAINS * 2)
            generator = self._rig.generator(
                self._plan.seed,
                CHAINS,
                f"{variant}-{number}",
                batches * EVENTS // CHAINS * 37,
                topic=topic,
            )
            tape.write(file, generator.batches(batches, EVENTS))
            turn = self._fed(variant, topic, file, batches * EVENTS)
        file.unlink()
        if variant in self._guess:
            self._guess[variant] = turn.rate
        return turn

    # -- one turn that is fed ---------------------------------------------------------------------

    def _fed(self, variant: str, topic: str, file: Path, events: int) -> Turn:
        rig, plan = self._rig, self._plan
        group = rig.group(variant, topic)
        changes = {"SEALTRAIL_TOPIC": topic, "SEALTRAIL_GROUP": group}
        if variant == "obvious":
            changes["BENCH_PUBLIC_KEY"] = rig.signer().public_key.der[-32:].hex()
        # The turn before may have left merges behind: they are its own, not this one's.
        rig.settle()
        rows = _Rows(rig, topic, obvious.TABLE if variant == "obvious" else "")
        worker = rig.start(f"workers.{variant}", changes=changes)
        feed = rig.start(
            "feed",
            str(file),
            topic,
            group,
            str(WINDOW_BYTES),
            "0",
            str(plan.seconds + plan.warm_s + READY_S),
            pipe=True,
            changes=changes,
        )
        pids = {
            "worker": worker.pid,
            "feeder": feed.pid,
            "store": rig.pid("store"),
            "broker": rig.pid(rig.broker),
        }
        try:
            turn = self._measure(rows, events, worker, pids)
            self._verify(rows, worker, feed, turn)
        finally:
            rig.stop(feed)
            rig.stop(worker)
        return turn

    def _measure(
        self,
        rows: _Rows,
        end: int,
        worker: subprocess.Popen[bytes],
        pids: dict[str, int],
    ) -> Turn:
        plan = self._plan
        begun = _wait(lambda: rows.total() > 0, worker, READY_S, "nothing is committed")
        while time.monotonic() - begun < plan.warm_s and rows.total() < end / 2:
            time.sleep(LOOK_S)
        # From one commit to another: they come in steps, and a slow machine takes long for one.
        first = last = self._step(rows, rows.total(), worker, pids)
        while last[0] - first[0] < plan.seconds and last[1] < end:
            last = self._step(rows, last[1], worker, pids)
        events = last[1] - first[1]
        if events <= 0:
            raise UnavailableError("all was committed within the warm-up", hint="more --seconds")
        cpu = {
            name: (seconds - first[2][name]) / events * 1e6
            for name, seconds in last[2].items()
            if name in first[2]
        }
        rss = {n: usage.peak_mb(p) for n, p in pids.items() if n in ("worker", "store")}
        return Turn(events / (last[0] - first[0]), events, cpu, rss)

    @staticmethod
    def _step(
        rows: _Rows, held: int, worker: subprocess.Popen[bytes], pids: dict[str, int]
    ) -> tuple[float, int, dict[str, float]]:
        """Wait for rows beyond those held: when, how many there are, CPU seconds so far."""
        total = held

        def more() -> bool:
            nonlocal total
            total = rows.total()
            return total > held

        at = _wait(more, worker, DRAIN_S, "nothing more is committed")
        return at, total, _cpu(pids)

    def _verify(
        self,
        rows: _Rows,
        worker: subprocess.Popen[bytes],
        feed: subprocess.Popen[bytes],
        turn: Turn,
    ) -> None:
        feed.terminate()
        sent = self._rig.answer(feed, DRAIN_S)
        _wait(lambda: rows.total() >= sent["events"], worker, DRAIN_S, "it does not drain")
        # A commit's row is there some milliseconds before readers see what it covers.
        with suppress(UnavailableError):
            _wait(
                lambda: rows.check(sent["ends"])[0] >= sent["events"],
                worker,
                SEEN_S,
                "readers do not see it",
            )
        found = rows.check(sent["ends"])
        if found != (sent["events"], sent["checksum"]):
            raise WrongRowsError(
                f"{sent['events']} events with checksum {sent['checksum']} were sent, "
                f"{found[0]} with {found[1]} are stored"
            )
        turn.bytes = sent["bytes"]

    # -- the store's limit ------------------------------------------------------------------------

    def _native(self) -> Turn:
        store = self._rig.store
        columns = (
            "tenant, chain_id, seq, event_id, leaf_hash, batch_seq, partition, offset, "
            "arrival, producer, instance, signed_at, occurred_at, event_type, activity, run_id, "
            "actor_id, inputs, outputs, trace_id, span_id, attributes, parents, salt"
        )
        store.command("DROP TABLE IF EXISTS sealtrail.bench_native")
        choose = f"SELECT {columns} FROM sealtrail.events"  # noqa: S608 - our own text
        order = "(tenant, toStartOfHour(arrival), chain_id, seq)"
        store.command(
            f"CREATE TABLE sealtrail.bench_native ENGINE = MergeTree ORDER BY {order} "
            f"AS {choose} LIMIT 0"
        )
        block = self._rig.post(f"{choose} LIMIT {NATIVE_ROWS} FORMAT Native".encode())
        insert = f"INSERT INTO sealtrail.bench_native ({columns}) FORMAT Native\n".encode()
        (count,) = store.query(
            f"SELECT count() FROM (SELECT 1 FROM sealtrail.events LIMIT {NATIVE_ROWS})"  # noqa: S608 - our own text
        )[0]
        done, began = 0, time.monotonic()
        while time.monotonic() - began < self._plan.seconds:
            self._rig.post(insert + block)
            done += count
        rate = done / (time.monotonic() - began)
        (stored,) = store.query("SELECT count() FROM sealtrail.bench_native")[0]
        store.command("DROP TABLE sealtrail.bench_native")
        if stored != done:
            raise WrongRowsError(f"{done} rows were inserted, {stored} are stored")
        return Turn(rate, done)


class _Rows:
    """Rows of a topic that are committed and can be queried.

    Args:
        rig: whose store.
        topic: of one turn.
        table: another table than those of the pipeline, empty before the turn: its rows count.
    """

    def __init__(self, rig: Rig, topic: str, table: str) -> None:
        self._store = rig.store
        self._topic = {"topic": topic}
        self._table = table

    def total(self) -> int:
        """How many are committed; the view of what readers see would take 16 us an event here."""
        sql = "SELECT sum(rows) FROM commits WHERE topic = {topic:String}"
        if self._table:
            sql = f"SELECT count() FROM {self._table}"  # noqa: S608 - our own text
        return int(self._store.query(sql, self._topic)[0][0])

    def check(self, ends: dict[str, int]) -> tuple[int, int]:
        """(how many, sum of salts) of the topic's events, up to these offsets."""
        if self._table:
            source, where = self._table, f"offset < {max(ends.values())}"
        else:
            source = "committed_events"
            up_to = " OR ".join(f"(partition = {p} AND offset < {end})" for p, end in ends.items())
            where = f"topic = {{topic:String}} AND ({up_to})"
        rows = self._store.query(
            "SELECT count(), sum(reinterpretAsUInt64(substring(salt, 1, 8))) "  # noqa: S608 - our own text
            f"FROM {source} WHERE {where}",
            self._topic,
        )
        return int(rows[0][0]), int(rows[0][1])


def _cpu(pids: dict[str, int]) -> dict[str, float]:
    found = {}
    for name, pid in pids.items():
        try:
            found[name] = usage.cpu_s(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _wait(
    done: Callable[[], bool], worker: subprocess.Popen[bytes], seconds: float, what: str
) -> float:
    """Wait until something is true; when it was."""
    end = time.monotonic() + seconds
    while not done():
        if worker.poll() is not None:
            raise UnavailableError(f"the worker ended with {worker.returncode}")
        if time.monotonic() > end:
            raise UnavailableError(f"{what} within {seconds:.0f} s")
        time.sleep(LOOK_S)
    return time.monotonic()


def _obvious_tape(rig: Rig, file: Path, seed: int, count: int, partitions: int) -> None:
    """Messages of the obvious design: a signature and an event each."""
    import random

    signer = rig.signer()
    rng, pool = random.Random(seed), bodies(seed)  # noqa: S311 - reproducible input
    start = time.time_ns() // 1000

    def messages() -> Iterator[Made]:
        for index in range(count):
            salt = rng.randbytes(16)
            data = long(start + index) + b"\x00" + salt + pool[index % len(pool)]
            value = signer.sign(data) + data
            partition = index % partitions
            yield Made(
                Message("", partition, struct.pack(">Q", index), (), value),
                1,
                checksum(salt),
            )

    tape.write(file, messages())
