"""A TCP proxy that misbehaves on demand: what networks and servers do to those who talk to them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Coroutine

CHUNK = 65_536
# Closing sends a reset rather than an orderly end.
_RESET = struct.pack("ii", 1, 0)
_IDLE_S = 0.05


@dataclass(frozen=True)
class Manners:
    """How connections are treated.

    Attributes:
        refuse: nobody listens, and open connections are reset.
        reset: new connections are taken and reset at once.
        hang: what clients send is swallowed, nothing is answered.
        delay_s: each piece of an answer comes so much later.
        bytes_per_s: of each direction, 0 for no limit.
        cut_after: a connection is reset after so many bytes of the client's, -1 never.
        drop_reply: a connection is reset when its server begins to answer: what was asked is done.
        reply: given instead of the server's answer to whatever is asked.
    """

    refuse: bool = False
    reset: bool = False
    hang: bool = False
    delay_s: float = 0
    bytes_per_s: float = 0
    cut_after: int = -1
    drop_reply: bool = False
    reply: bytes = b""


class Proxy:
    """Listens on a free port of loopback in a thread of its own; polite until told otherwise.

    Args:
        target: port of loopback that it stands before.
        port: where to listen; 0 takes a free one.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.port = port
        self.manners = Manners()
        self.connections = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def behave(self, manners: Manners) -> None:
        """Treat connections so from now on; those that are open are reset where that differs."""
        self._do(self._behave(manners))

    def _do(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _behave(self, manners: Manners) -> None:
        self.manners = manners
        if manners.refuse:
            await self._shut()
        elif self._server is None:
            await self._listen()
        if manners != Manners(delay_s=manners.delay_s, bytes_per_s=manners.bytes_per_s):
            self._reset_all()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._reset_all()
        await asyncio.sleep(0)
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _reset_all(self) -> None:
        for writer in list(self._open):
            _abort(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            if self.manners.reset:
                return
            if self.manners.hang:
                while await reader.read(CHUNK):
                    pass
            elif self.manners.reply:
                await self._answer(reader, writer)
            else:
                await self._through(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # one side is gone, or all are sent away; the other side learns it below
        finally:
            self._open.discard(writer)
            _abort(writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read a request until nothing more comes, then say what was laid down."""
        await reader.read(CHUNK)
        with contextlib.suppress(TimeoutError):
            while await asyncio.wait_for(reader.read(CHUNK), _IDLE_S):
                pass
        writer.write(self.manners.reply)
        await writer.drain()
        await asyncio.sleep(_IDLE_S)

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to = await asyncio.open_connection("127.0.0.1", self.target, limit=CHUNK)
        self._open.add(to)
        ways = [
            asyncio.ensure_future(self._pump(reader, to, asked=True)),
            asyncio.ensure_future(self._pump(to_reader, writer, asked=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._open.discard(to)
            _abort(to)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asked: bool
    ) -> None:
        passed = 0
        while data := await reader.read(CHUNK):
            manners = self.manners
            if manners.hang:
                continue
            if not asked:
                if manners.drop_reply:
                    return
                await asyncio.sleep(manners.delay_s)
            if manners.bytes_per_s:
                await asyncio.sleep(len(data) / manners.bytes_per_s)
            passed += len(data)
            if asked and 0 <= manners.cut_after < passed:
                writer.write(data[: len(data) - (passed - manners.cut_after)])
                await writer.drain()
                return
            writer.write(data)
            await writer.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
