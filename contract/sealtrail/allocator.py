"""glibc's allocator (mallopt(3)), for processes whose memory is made of large buffers."""

import contextlib
import ctypes
from typing import Final

# malloc.h
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def tune(
    *, mmap_threshold: int, trim_threshold: int | None = None, arenas: int | None = None
) -> None:
    """Say when freed memory goes back to the kernel; nothing happens with another C library.

    Args:
        mmap_threshold: bytes from which a block is mapped by itself, and unmapped when it is freed.
        trim_threshold: bytes that are kept free at the end of a heap; None for glibc's own rule.
        arenas: heaps that threads share; None for glibc's own rule.
    """
    chosen = {
        _M_MMAP_THRESHOLD: mmap_threshold,
        _M_TRIM_THRESHOLD: trim_threshold,
        _M_ARENA_MAX: arenas,
    }
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in chosen.items():
            if value is not None:
                mallopt(option, value)
