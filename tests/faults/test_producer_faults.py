"""Rows of the catalogue about producers: killed between signing and sending; too large."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.crash.harness import HERE, PRODUCER
from tests.scenarios import conservation

from sealtrail_producer.spool_segment import Segment, read_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.faults.line import Line

    Say = Callable[[str], None]

NOWHERE = "127.0.0.1:1"
# Silence is told after two heartbeats; a worker looks each second, or when its turn comes on a busy
# machine: the third one must not be due by then.
BEAT_S = 8
# Some hundred events.
BEGUN_BYTES = 300_000


def killed(line: Line, rng: random.Random, instance: str = "dying", **settings: str) -> None:
    """A service that is killed at any moment once it has some hundred events on disk."""
    before = newest(line, instance)
    process = feeder(line, 100_000, 300, instance, **settings)
    line.wait(lambda: (now := newest(line, instance)) > before and now.stat().st_size > BEGUN_BYTES)
    time.sleep(rng.uniform(0, 3))
    process.send_signal(signal.SIGKILL)
    process.wait()


def newest(line: Line, instance: str) -> Path:
    """The segment of the spool that is written now; each process begins one."""
    spool = line.pipeline.folder / "spool" / PRODUCER / instance
    return max(spool.glob("*.seg"), default=Path())


def feeder(
    line: Line, events: int, rate: float, instance: str = "dying", **settings: str
) -> subprocess.Popen[bytes]:
    """A service of always the same instance."""
    never = str(line.pipeline.folder / "never")
    command = [sys.executable, str(HERE / "feeder.py"), PRODUCER, instance, str(events)]
    return line.pipeline.spawn([*command, str(rate), never], subprocess.PIPE, settings)


@pytest.mark.row("B10")
def test_b10_killed_between_signing_and_sending(line: Line, happened: Say) -> None:
    rng = random.Random(10)
    line.start()
    # Signed, on disk, and nobody there to take it.
    for _ in range(2):
        killed(line, rng, kafka_bootstrap=NOWHERE)
    # Killed while sending, some of it acknowledged and some not.
    kills = 4
    for _ in range(kills):
        killed(line, rng)
    last = feeder(line, 200, 300)
    last.communicate(timeout=300)
    assert last.returncode == 0
    mine = "FROM provenance.events WHERE startsWith(instance, 'dying')"
    # It sent what the others had left on disk.
    line.wait(lambda: not conservation.behind(line.pipeline.folder))
    line.stop()
    assert line.number(f"SELECT count() {mine} AND attributes['number'] = '199'") == 3 + kills
    stored = line.number(f"SELECT count() {mine}")
    line.sent += stored
    assert stored > 1_000
    holes = line.number(
        f"SELECT count() FROM (SELECT chain_id, max(seq) + 1 AS most, count() AS n {mine} "
        "GROUP BY chain_id HAVING most != n)"
    )
    assert holes == 0
    assert [f for f in line.findings() if f["code"] in ("FORK", "GAP", "LINK_MISMATCH")] == []
    forks = line.number("SELECT count() FROM findings FINAL WHERE code IN ('FORK', 'GAP')")
    assert forks == 0
    happened(f"killed {2 + kills} times, {stored} events, no fork, no gap; {line.law()}")


@pytest.mark.row("B8")
def test_b8_silence_is_told_before_the_third_heartbeat_is_due(line: Line, happened: Say) -> None:
    line.start()
    # Few events, so that heartbeats come between them.
    process = feeder(line, 1_000, 1 / (3 * BEAT_S), "silent", heartbeat_s=str(BEAT_S))
    chain = "SELECT DISTINCT chain_id FROM events WHERE instance = 'silent'"
    line.wait(
        lambda: line.number(f"SELECT count() FROM heartbeats WHERE chain_id IN ({chain})") > 0
    )
    process.kill()
    process.wait()
    told = f"FROM findings FINAL WHERE code = 'STALLED_CHAIN' AND chain_id IN ({chain})"
    line.wait(lambda: line.number(f"SELECT count() {told}") == 1)
    seen_us = time.time_ns() // 1000
    # The broker's clock, the worker's and this one are one; batches live, too.
    last_us = line.number(
        "SELECT toUnixTimestamp64Micro(max(arrival)) FROM (SELECT arrival FROM heartbeats WHERE "
        f"chain_id IN ({chain}) UNION ALL SELECT arrival FROM batches WHERE chain_id IN ({chain}))"
    )
    found_us = line.number(f"SELECT toUnixTimestamp64Micro(any(found_at)) {told}")
    found_s, seen_s = (found_us - last_us) / 1e6, (seen_us - last_us) / 1e6
    assert 2 * BEAT_S < found_s <= seen_s < 3 * BEAT_S
    line.stop()
    line.sent += line.number("SELECT count() FROM provenance.events WHERE instance = 'silent'")
    happened(
        f"a heartbeat each {BEAT_S} s: STALLED_CHAIN {found_s:.1f} s after the last sign of life, "
        f"readers saw it after {seen_s:.1f} s; {line.law()}"
    )


@pytest.mark.row("E14")
def test_e14_the_spool_is_cut_and_overwritten(line: Line, happened: Say) -> None:
    rng = random.Random(14)
    line.start()
    spoiled, whole, lost = [], [], 0
    for harm in (cut, overwrite):
        # Signed, on disk, and nobody there to take it; then its tail is spoiled.
        killed(line, rng, "spoiled", kafka_bootstrap=NOWHERE)
        segment = newest(line, "spoiled")
        before = records(segment)
        harm(segment, before)
        spoiled.append(segment)
        whole.append(len(records(segment)))
        lost += len(before) - whole[-1]
        assert 0 < whole[-1] < len(before)
    last = feeder(line, 200, 300, "spoiled")
    last.communicate(timeout=300)
    assert last.returncode == 0
    line.wait(lambda: not conservation.behind(line.pipeline.folder))
    line.stop()
    rows = line.pipeline.sql(
        "SELECT hex(chain_id) AS chain, uniqExact(batch_seq) AS n, max(batch_seq) + 1 AS next "
        "FROM committed_batches WHERE instance = 'spoiled' GROUP BY chain ORDER BY min(offset)"
    )
    # All that is whole, nothing else, and what its successors say that they continue is there.
    assert [(r["n"], r["next"]) for r in rows[:2]] == [(n, n) for n in whole]
    assert len(rows) == 3
    # What is not whole is named by the next process: the file, and how much of it.
    log = (line.pipeline.folder / "processes.log").read_text(errors="replace")
    for file in spoiled:
        assert re.search(rf"spool {file}: \d+ bytes behind the last good record are cut off", log)
    mine = "FROM provenance.events WHERE instance = 'spoiled'"
    assert line.number(f"SELECT count() {mine} AND chain_id = '{rows[2]['chain'].lower()}'") == 200
    assert line.number("SELECT count() FROM findings FINAL WHERE code IN ('FORK', 'GAP')") == 0
    line.sent += line.number(f"SELECT count() {mine}")
    happened(
        f"spool cut, and overwritten: {sum(whole)} whole batches sent, {lost} spoiled ones named, "
        f"nobody doubled; {line.law()}"
    )


def records(segment: Path) -> list[int]:
    """Where the good records of a segment end, as the next process will read them."""
    with segment.open("rb") as file:
        read, ends = Segment(int(segment.stem), segment, file.fileno()), [0]
        while (found := read_at(read, read.first + len(ends) - 1, ends[-1]))[0] is not None:
            ends.append(ends[-1] + found[1])
    return ends[1:]


def cut(segment: Path, ends: Sequence[int]) -> None:
    """In the middle of the last record."""
    os.truncate(segment, (ends[-2] + ends[-1]) // 2)


def overwrite(segment: Path, ends: Sequence[int]) -> None:
    """The last third, but for its very end."""
    with segment.open("r+b") as file:
        file.seek(ends[-1] * 2 // 3)
        file.write(b"\xff" * (ends[-1] // 4))


@pytest.mark.row("C10")
def test_c10_larger_than_may_be(line: Line, happened: Say) -> None:
    line.start()
    huge = "x" * 120_000
    # Arguments of a process end at 128 kB: many of them make one event of more than 512 kB.
    pairs = [word for n in range(5) for word in ("--attribute", f"name{n}={huge}")]
    said = line.pipeline.call("emit", "huge.step", "--producer", PRODUCER, *pairs)
    assert said.returncode == 3
    assert "512" in said.stderr or "524288" in said.stderr or "at most" in said.stderr, said.stderr
    assert "split it into child events" in said.stderr
    # One that fits, and a broker that takes less: it stays in the spool, and is told.
    small = line.pipeline.folder / "small.properties"
    small.touch(mode=0o600)
    small.write_text("message.max.bytes=50000\n")
    env = {"SEALTRAIL_KAFKA_CONFIG": str(small)}
    pairs = [word for n in range(2) for word in ("--attribute", f"name{n}={'y' * 60_000}")]
    said = line.pipeline.call("emit", "large.step", "--producer", PRODUCER, *pairs, env=env)
    assert said.returncode == 3, said
    assert "spool" in said.stderr or "message.max.bytes" in said.stderr, said.stderr
    # The next process, with brokers that take it, sends what the first one could not.
    said = line.pipeline.call("emit", "small.step", "--producer", PRODUCER, "--timeout", "120")
    assert said.returncode == 0, said.stderr
    large = "FROM provenance.events WHERE activity IN ('large.step', 'small.step')"
    line.wait(lambda: line.number(f"SELECT count() {large}") == 2)
    line.sent += 2
    line.drained()
    line.stop()
    happened(f"refused with a hint; what a broker refused was sent later; {line.law()}")
