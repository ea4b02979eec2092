"""Messages that kill: real workers, started anew each time as a supervisor would."""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.crash import verdict
from tests.crash.harness import PRODUCER, Pipeline
from tests.scenarios import conservation

from sealtrail_processor.judging.suspicion import ALONE
from sealtrail_processor.pipeline.worker import EXIT_FAILED

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

SETTINGS = {"SEALTRAIL_SESSION_TIMEOUT_S": "6", "SEALTRAIL_PACE_BYTES": "0"}
HONEST = 2_000
# Generous: each death is followed by a start, and the machine may have other work to do.
PATIENCE_S = 600
# How often a worker may die: alone with it, and before that with others in hand, or while another
# thread worked, which might have been to blame.
DEATHS = {"examined": 1 + ALONE, "raised": ALONE, "written": 2 + ALONE}
STATUS = {
    "examined": -signal.SIGSEGV,
    "raised": EXIT_FAILED,
    "written": -signal.SIGKILL,
}


class Supervisor:
    """Keeps a worker running, and counts how it ended."""

    def __init__(self, pipeline: Pipeline, poison: str) -> None:
        self.pipeline = pipeline
        self.poison = poison
        self.ended: Counter[int] = Counter()
        self.worker = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return self.pipeline.worker(self.poison, f"pill-{self.poison}")

    def until(self, done: Callable[[], bool], timeout_s: float) -> None:
        """Start it anew when it ended, until something is true."""
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, self.ended
            status = self.worker.poll()
            if status is not None:
                self.ended[status] += 1
                self.worker = self._start()
            time.sleep(0.2)

    def stop(self) -> None:
        """Ask it to stop."""
        self.worker.send_signal(signal.SIGTERM)
        assert self.worker.wait(60) == 0


@pytest.mark.row("C12")
@pytest.mark.parametrize("poison", DEATHS)
def test_a_message_that_kills_is_quarantined_and_the_rest_goes_on(
    poison: str, happened: Callable[[str], None]
) -> None:
    with Pipeline(SETTINGS) as pipeline:
        # All in the log before a worker comes, so that the pill has honest company in its flush.
        feeders = [pipeline.feeder(f"i{n}", HONEST // 4) for n in range(4)]
        assert verdict.sent(feeders)["events"] == HONEST
        pipeline.sealtrail("emit", f"pill-{poison}", "--producer", PRODUCER)
        supervisor = Supervisor(pipeline, poison)

        def found() -> int:
            return pipeline.number(
                "SELECT count() FROM provenance.open_findings WHERE code = 'CRASH_LOOP'"
            )

        supervisor.until(lambda: found() == 1 and pipeline.committed() == HONEST, PATIENCE_S)
        supervisor.stop()
        assert set(supervisor.ended) == {STATUS[poison]}
        deaths = supervisor.ended[STATUS[poison]]
        assert ALONE <= deaths <= DEATHS[poison]
        held = pipeline.sealtrail("quarantine", "list", "--code", "CRASH_LOOP", "--json")
        assert len(held.splitlines()) == 1
        law = conservation.check(pipeline.folder)
        assert law.differences == []
        assert law.dispositions["quarantined"] == 1
        happened(f"{poison}: {deaths} deaths, then CRASH_LOOP; {HONEST} honest events stored")
