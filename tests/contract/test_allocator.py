"""glibc keeps and gives back what it is told to."""

import ctypes
import subprocess
import sys

import pytest

from sealtrail import allocator

# Blocks that are mapped by themselves, before and after one of 600 kB, and after one of 2 MB.
MAPPED = """
import ctypes
from sealtrail import allocator

class Info(ctypes.Structure):  # struct mallinfo2 of malloc.h
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    )]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
allocator.tune(mmap_threshold=1 << 20, trim_threshold=16 << 20, arenas=2)
before = libc.mallinfo2().hblks
small = bytes(600_000)
between = libc.mallinfo2().hblks
large = bytes(2_000_000)
print(between - before, libc.mallinfo2().hblks - between)
"""


def test_blocks_from_the_threshold_on_are_mapped() -> None:
    told = subprocess.run(
        [sys.executable, "-c", MAPPED], capture_output=True, text=True, check=True, timeout=60
    )
    # By default both would be mapped: the threshold is 128 kB at first.
    assert told.stdout.split() == ["0", "1"]


def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    allocator.tune(mmap_threshold=1 << 20)
