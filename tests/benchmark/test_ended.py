"""A benchmark that somebody ends takes its servers with it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

STARTED_S, ENDED_S = 60.0, 60.0
COMMAND = (sys.executable, "-c", "from sealtrail.cli import main; main()")


def lives(process: psutil.Process) -> bool:
    """Whether it still runs; who is dead and not yet buried does not."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_sigterm_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    bench = subprocess.Popen(
        [*COMMAND, "bench", "--section", "recovery"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + STARTED_S
    # A worker runs by then, beside the servers.
    while not list(tmp_path.glob("sealtrail-bench-*/[0-9]*.log")):
        assert bench.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    begun = psutil.Process(bench.pid).children(recursive=True)
    files = tmp_path.glob("sealtrail-bench-*/state/run/*.json")
    begun += [psutil.Process(json.loads(file.read_text())["pid"]) for file in files]
    assert len(begun) == 4
    bench.terminate()
    assert bench.wait(ENDED_S) != 0
    assert not [process for process in begun if lives(process)]
    assert list(tmp_path.iterdir()) == []
