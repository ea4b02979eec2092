"""The supervisor of fault tests tells how processes ended, and why by their own words."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.faults.supervisor import Supervisor, last_words

if TYPE_CHECKING:
    from pathlib import Path

ERROR = json.dumps({"event": "7 messages wait: leaving", "level": "error"})
LATER = json.dumps({"event": "stopped", "level": "info"})
RAISED = {
    "event": "a lane failed",
    "level": "error",
    "exception": "Traceback\n...\nKeyError: 5",
}


def test_the_last_error_counts_and_not_what_others_said_after_it() -> None:
    assert last_words(f"{ERROR}\n{LATER}\n") == "7 messages wait: leaving"


def test_what_was_raised_is_told() -> None:
    assert last_words(json.dumps(RAISED)) == "a lane failed: KeyError: 5"
    printed = "Traceback (most recent call last):\n  File x\n    f()\nOSError: no more\n%7|FAIL\n"
    assert last_words(f"{ERROR}\n{printed}{LATER}") == "7 messages wait: leaving: OSError: no more"


def test_what_was_raised_before_the_last_error_is_told_with_it() -> None:
    told = f"{json.dumps(RAISED)}\n{ERROR}"
    assert last_words(told) == "7 messages wait: leaving: KeyError: 5"


def test_without_an_error_it_is_the_last_line() -> None:
    assert last_words(f"{LATER}\nFatal Python error: Aborted\n") == "Fatal Python error: Aborted"
    assert last_words("") == ""


def test_each_process_is_told_by_its_own_words(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text(f"{ERROR}\n")
    script = f"print({LATER!r}); raise SystemExit(3)"

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            return subprocess.Popen([sys.executable, "-c", script], stdout=file)

    supervisor = Supervisor()
    supervisor.start()
    charge = supervisor.add("worker", start, log)
    end = time.monotonic() + 60
    while not charge.ends:
        assert time.monotonic() < end
        time.sleep(0.1)
    supervisor.dismiss(charge, None, 60)
    supervisor.close()
    assert {(e.status, e.words) for e in charge.ends} == {(3, LATER)}
