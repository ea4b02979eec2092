"""However a command is ended, it ends as at Ctrl-C: what it started ends with it."""

import signal
from types import FrameType
from typing import NoReturn


def interrupt_when_ended() -> None:
    """SIGTERM and SIGHUP (a terminal that is closed) raise KeyboardInterrupt from now on."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
