"""D6: the clock of a worker's machine is set while it runs, by an hour, both ways."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.scenarios.clocks import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.line import Line

    Say = Callable[[str], None]

JUMPS_S = (3_600, -3_600, 0)
WAIT_S = 6


@pytest.mark.row("D6")
def test_d6_the_workers_clock_is_set(line: Line, happened: Say) -> None:
    clock = Clock(line.pipeline.folder / "faketime")
    fake = clock.variables()
    line.pipeline.env.update(fake)
    try:
        line.start(stalled_heartbeats="2", orphan_window_s="20", gap_settle_s="10")
    finally:
        for name in fake:
            del line.pipeline.env[name]
    line.send(100)
    line.drained()
    feeder = line.feed(2_000, 80)
    for jump in JUMPS_S:
        clock.set(jump)
        time.sleep(WAIT_S)
    feeder.communicate(timeout=300)
    assert feeder.returncode == 0
    line.drained()
    log = (line.pipeline.folder / "processes.log").read_text(errors="replace")
    line.stop()
    # The clock was really set, and the worker says so.
    assert "clock was set by" in log
    assert line.findings() == []
    arrivals = line.number(
        "SELECT max(abs(dateDiff('second', arrival, signed_at))) FROM provenance.events"
    )
    assert arrivals < 600
    jumps = ", ".join(f"{jump / 3600:+.0f} h" for jump in JUMPS_S)
    happened(f"clock set to {jumps}: no finding, no arrival displaced; {line.law()}")
