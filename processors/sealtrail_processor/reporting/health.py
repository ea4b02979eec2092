"""/metrics, /healthz and /readyz over HTTP or HTTPS, from a thread of their own.

They answer while the event loop hangs, which is when somebody asks.
- healthz: the process lives and its loop turned within the last 30 s;
- readyz: partitions are assigned, their state is loaded, nothing is waited for.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    import socket

    from sealtrail.serving import ServerCertificate
    from sealtrail_processor.reporting.metrics import Metrics, Status

LOOP_DEAD_S = 30.0
# Who connects and says nothing is let go.
PATIENCE_S = 10.0

log = logging.getLogger(__name__)


def health(status: Status, now: float) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of /healthz; now by time.monotonic()."""
    silent = now - status.loop_beat
    return (200 if silent < LOOP_DEAD_S else 503), {"loop_silent_seconds": round(silent, 3)}


def readiness(status: Status) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of /readyz."""
    good = status.ready and not status.waiting and not status.stopping
    body = {
        "assigned": list(status.assigned),
        "waiting_for": status.waiting,
        "stopping": status.stopping,
        "lag": status.lag,
    }
    return (200 if good else 503), body


class _Server(ThreadingHTTPServer):
    """With a thread for each connection, in which hands are shaken, too: none waits for another."""

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        certificate: ServerCertificate | None,
    ) -> None:
        self._certificate = certificate
        super().__init__(address, handler)

    def service_actions(self) -> None:
        # Between two connections, and twice a second at least.
        if self._certificate is not None:
            self._certificate.look()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._certificate is None:
            return connection, address
        context = self._certificate.context
        secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return secured, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.error("a probe failed", exc_info=error)
        else:
            # It went away, or speaks no TLS, or believes another CA.
            log.debug("a probe from %s was cut off: %s", client_address, error)


class HealthServer:
    """Serves the three paths until closed.

    Args:
        host, port: where it listens; port 0 takes a free one (see `port`).
        metrics, status: what it tells.
        certificate: what it shows: HTTPS alone; None: HTTP.

    Raises:
        OSError: the port is taken.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Metrics,
        status: Status,
        certificate: ServerCertificate | None = None,
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = PATIENCE_S

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._send(200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
                elif self.path == "/healthz":
                    self._json(*health(status, time.monotonic()))
                elif self.path == "/readyz":
                    self._json(*readiness(status))
                else:
                    self._json(404, {"paths": ["/metrics", "/healthz", "/readyz"]})

            def _json(self, code: int, body: dict[str, Any]) -> None:
                self._send(code, "application/json", json.dumps(body).encode() + b"\n")

            def _send(self, code: int, kind: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Probes are no news."""

        self._server = _Server((host, port), Handler, certificate)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="health", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
