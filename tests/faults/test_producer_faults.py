"""Rows of the catalogue about producers: killed between signing and sending; too large."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.crash.harness import HERE, PRODUCER
from tests.scenarios import conservation

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.line import Line

    Say = Callable[[str], None]

NOWHERE = "127.0.0.1:1"
# Some hundred events.
BEGUN_BYTES = 300_000


def killed(line: Line, rng: random.Random, **settings: str) -> None:
    """A service that is killed at any moment once it has some hundred events on disk."""
    before = newest(line)
    process = feeder(line, 100_000, 300, **settings)
    line.wait(lambda: (now := newest(line)) > before and now.stat().st_size > BEGUN_BYTES)
    time.sleep(rng.uniform(0, 3))
    process.send_signal(signal.SIGKILL)
    process.wait()


def newest(line: Line) -> Path:
    """The segment of the spool that is written now; each process begins one."""
    spool = line.pipeline.folder / "spool" / PRODUCER / "dying"
    return max(spool.glob("*.seg"), default=Path())


def feeder(line: Line, events: int, rate: float, **settings: str) -> subprocess.Popen[bytes]:
    """A service of always the same instance."""
    never = str(line.pipeline.folder / "never")
    command = [sys.executable, str(HERE / "feeder.py"), PRODUCER, "dying", str(events)]
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
