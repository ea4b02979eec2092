"""Servers that are somebody else's in a test: as far as a client sees them, with TLS or without."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"


class Answering(BaseHTTPRequestHandler):
    """Says so much to whatever is asked."""

    body = b""

    def do_GET(self) -> None:
        self.answer(200, self.body)

    do_HEAD = do_GET  # noqa: N815 - as the base class calls it

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        """Send it; to HEAD what stands before it."""
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - likewise
        pass


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler], certificate: Path | None, port: int = 0
) -> Iterator[int]:
    """A server until the block ends; its port.

    Args:
        handler: what it answers.
        certificate: with its key; None: plain HTTP.
        port: 0 takes any.
    """
    with ThreadingHTTPServer((HOST, port), handler) as server:
        server.daemon_threads = True
        # A handshake that fails ends in a thread of the server's, which says nothing.
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
