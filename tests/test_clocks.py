"""What libfaketime leaves behind is removed, and nothing else."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from tests.scenarios import clocks

if TYPE_CHECKING:
    from pathlib import Path


def test_of_dead_processes_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    gone = [tmp_path / f"sem.faketime_sem_{dead.pid}", tmp_path / f"faketime_shm_{dead.pid}"]
    kept = [tmp_path / f"faketime_shm_{os.getpid()}", tmp_path / "sem.other_1"]
    for file in (*gone, *kept):
        file.touch()
    clocks.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
