"""Answers: what the engine wrote, the summary header, and the pipe of a streamed result."""

import asyncio
import contextlib
import fcntl
import json
import os
import re
from typing import Any, Final

_PIPE_BYTES: Final = 1 << 20
_F_SETPIPE_SZ: Final = (
    1031  # fcntl.F_SETPIPE_SZ exists under this name from Python 3.10 on Linux only
)
# Clauses behind which no second INTO OUTFILE can be put.
_NOT_STREAMED: Final = re.compile(rb"\b(INTO\s+OUTFILE|FORMAT\s+\w+\s+SETTINGS)\b", re.IGNORECASE)
_TEXT_FORMATS: Final = ("T", "C", "J")  # TabSeparated, CSV, JSON and their kin


def may_stream(statement: bytes) -> bool:
    """Whether a query's result can be sent while it is made."""
    return _NOT_STREAMED.search(statement) is None


def into_descriptor(bare: bytes, descriptor: int, form: str) -> bytes:
    """A query that writes its result into a descriptor of this process.

    Args:
        bare: the query without a FORMAT clause.
        descriptor: write end of a pipe.
        form: format of the result.
    """
    return b"%b\nINTO OUTFILE '/proc/self/fd/%d' APPEND FORMAT %b" % (
        bare,
        descriptor,
        form.encode(),
    )


def media_type(form: str) -> str:
    """Content type of a format's output."""
    return "text/plain" if form.startswith(_TEXT_FORMATS) else "application/octet-stream"


def summary(result: Any) -> str:
    """The X-ClickHouse-Summary header of a finished statement; all numbers are strings there."""
    numbers = {
        "read_rows": result.storage_rows_read(),
        "read_bytes": result.storage_bytes_read(),
        "written_rows": result.rows_written(),
        "written_bytes": result.bytes_written(),
        "total_rows_to_read": 0,
        "result_rows": result.rows_read(),
        "result_bytes": result.bytes_read(),
        "elapsed_ns": int(result.elapsed() * 1e9),
    }
    return json.dumps({name: str(value) for name, value in numbers.items()})


def exception_block(message: str, tag: str) -> bytes:
    """An error after the status line has gone out (ClickHouse 25.11 and newer).

    Args:
        message: the error's text.
        tag: random, announced in X-ClickHouse-Exception-Tag, so that no data can pass for it.
    """
    text = message.encode()
    mark = tag.encode()
    return b"\r\n__exception__\r\n%b\r\n%b\n%d %b\r\n__exception__\r\n" % (
        mark,
        text,
        len(text),
        mark,
    )


class Pipe:
    """A pipe from an engine thread to the event loop; its read end is closed exactly once.

    uvloop's `connect_read_pipe` closes its descriptor twice. With an engine's threads in the
    process the second close hits a descriptor of theirs (seen: EBADF in epoll_wait, inserts that
    hang). Hence asyncio's own loop and this class.

    Args:
        loop: that reads.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: asyncio.Future[None] | None = None
        read_end, self.write_end = os.pipe()
        self._read_end: int | None = read_end
        os.set_blocking(read_end, False)
        # The default of 64 kB costs a change of threads every 64 kB; a refusal leaves it at that.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.write_end, _F_SETPIPE_SZ, _PIPE_BYTES)

    async def read(self) -> bytes:
        """The next bytes; empty at the end or once closed."""
        while self._read_end is not None:
            with contextlib.suppress(BlockingIOError):
                return os.read(self._read_end, _PIPE_BYTES)
            ready = self._ready = self._loop.create_future()
            self._loop.add_reader(self._read_end, _wake, ready)
            try:
                await ready
            finally:
                if self._read_end is not None:
                    self._loop.remove_reader(self._read_end)
        return b""

    def close(self) -> None:
        """Close the read end: the engine's next write fails and ends the query."""
        if self._read_end is None:
            return
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)
        self._read_end = None
        if self._ready is not None:
            _wake(self._ready)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
