"""An HTTP gateway between a worker and the store that writes down each insert, and can break some.

It reads a whole request before it decides, so that what it breaks is broken exactly there.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Insert:
    """An insert as it passed: table, its settings (parameters of the URL), hash of its rows."""

    table: str
    settings: dict[str, str]
    digest: str
    size: int

    @property
    def token(self) -> str:
        """What the store knows a repetition by."""
        return self.settings.get("insert_deduplication_token", "")


@dataclass
class Gateway:
    """Listens on a free port of loopback.

    Args:
        target: URL of the store.
        cut: which inserts are sent half and then broken off.
    """

    target: str
    cut: Callable[[Insert], bool] = lambda _: False
    inserts: list[Insert] = field(default_factory=list)
    broken: list[Insert] = field(default_factory=list)
    # Requests that the store has and has not answered yet.
    unanswered: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """What the worker takes for the store."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        gateway = self

        class Handler(_Handler):
            def do_POST(self) -> None:
                gateway.serve(self)

            def do_GET(self) -> None:
                gateway.serve(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="gateway", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def serve(self, request: _Handler) -> None:
        """Pass one request on, or half of it."""
        body = request.body()
        insert = _insert(request.path, body)
        if insert is not None:
            self.inserts.append(insert)
        url = urlsplit(self.target)
        assert url.hostname is not None
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_S)
        headers = {n: v for n, v in request.headers.items() if n.lower() not in _HOPS}
        try:
            if insert is not None and self.cut(insert):
                self.broken.append(insert)
                _half(connection, request, headers, body)
                request.close_connection = True
                request.connection.shutdown(socket.SHUT_RDWR)
                return
            connection.request(request.command, request.path, body, headers)
            with self._waiting():
                reply = connection.getresponse()
            request.answer(reply, reply.read())
        finally:
            connection.close()

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        with self._lock:
            self.unanswered += 1
        try:
            yield
        finally:
            with self._lock:
                self.unanswered -= 1


_HOPS = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base names it
        """Nothing is written."""

    def body(self) -> bytes:
        """The whole body, chunked or not."""
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def answer(self, reply: http.client.HTTPResponse, body: bytes) -> None:
        """What the store said."""
        self.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in _HOPS:
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _insert(path: str, body: bytes) -> Insert | None:
    settings = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
    statement = settings.get("query", "").encode() + body[:200]
    words = statement.replace(b"`", b"").split(None, 3)
    if len(words) < 3 or words[0].upper() != b"INSERT":
        return None
    table = words[2].decode(errors="replace").split("(")[0].rpartition(".")[2]
    return Insert(table, settings, hashlib.sha256(body).hexdigest(), len(body))


def _half(
    connection: http.client.HTTPConnection, request: _Handler, headers: dict[str, str], body: bytes
) -> None:
    """The head, half of the body, and then the line is dead."""
    connection.putrequest(request.command, request.path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.putheader("content-length", str(len(body)))
    connection.endheaders()
    connection.send(body[: len(body) // 2])
