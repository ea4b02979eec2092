"""How often a worker looks for garbage while the references of its flushes live."""

import subprocess
import sys

import pytest

LOOKS = """
import gc
from sealtrail.event import ParentRef
from sealtrail_processor.pipeline import wiring

if {tuned}:
    wiring.tune()
before = gc.get_stats()[2]["collections"]
held = [[ParentRef(bytes(16), n, bytes(32))] for n in range(500_000)]
print(gc.get_stats()[2]["collections"] - before)
"""


@pytest.mark.parametrize("tuned", [True, False])
def test_all_of_the_process_is_not_looked_through_for_each_flush(*, tuned: bool) -> None:
    told = subprocess.run(
        [sys.executable, "-c", LOOKS.format(tuned=tuned)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    # By default several times.
    assert (int(told.stdout) == 0) is tuned
