"""Keeps web pages away from servers on loopback.

A page in somebody's browser can send requests to 127.0.0.1, by name (DNS rebinding) or across
origins. Neither has a reason to talk to the embedded registry or store, and the registry asks for
no password.
"""

from typing import Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_NAMES: Final = frozenset({b"127.0.0.1", b"localhost"})


class LoopbackOnly:
    """ASGI middleware: refuses foreign Host headers and requests from pages of other origins.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            host = headers.get(b"host", b"").rpartition(b":")[0] or headers.get(b"host", b"")
            # Only browsers send it, and they send it with every request that could do harm.
            origin = headers.get(b"origin")
            if host not in _NAMES or (origin is not None and not _local(origin)):
                response = PlainTextResponse("Only for programs of this machine.\n", 403)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _local(origin: bytes) -> bool:
    host = origin.partition(b"://")[2]
    return (host.rpartition(b":")[0] or host) in _NAMES
