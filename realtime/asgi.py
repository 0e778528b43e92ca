"""The ASGI application of `/ws`: STOMP over a plain WebSocket, and SockJS below it.

Composed by `messaging_site.asgi`, in front of Django and REST: an idle connection costs one coroutine.
"""

from __future__ import annotations

from typing import Final

from starlette.types import Receive, Scope, Send

from realtime import websocket
from realtime.connections import Connection
from realtime.hub import LiveHub
from realtime.stomp.session import StompSession

PREFIX: Final = "/ws"
_RAW: Final = frozenset({"", "websocket"})
_GREETING: Final = b"Welcome to SockJS!\n"


def handles(scope: Scope) -> bool:
    """Whether an HTTP request or a WebSocket belongs here; every WebSocket does."""
    path: str = scope["path"]
    return scope["type"] == "websocket" or path == PREFIX or path.startswith(f"{PREFIX}/")


class RealtimeApplication:
    """Dispatches `/ws` by path."""

    def __init__(self, live: LiveHub) -> None:
        self._live = live

    def _session(self, connection: Connection) -> StompSession:
        return StompSession(connection, self._live)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request or WebSocket of `handles`."""
        path: str = scope["path"]
        inside = path == PREFIX or path.startswith(f"{PREFIX}/")
        rest = path[len(PREFIX) + 1 :]
        if scope["type"] == "websocket":
            if not inside:
                await receive()
                await websocket.respond(scope, send, 404, "not_found", "there is no WebSocket at this path")
            elif rest in _RAW:
                await websocket.serve(scope, receive, send, self._live, self._session)
            else:
                await receive()
                await websocket.respond(scope, send, 404, "not_found", "there is no WebSocket at this path")
        elif rest:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await _greet(scope, send)


async def _greet(scope: Scope, send: Send) -> None:
    """What SockJS servers say to whoever looks (sockjs-protocol, base URL greeting)."""
    known = scope["method"] in ("GET", "HEAD")
    headers = [(b"content-type", b"text/plain; charset=UTF-8"), (b"allow", b"GET, HEAD")]
    await send({"type": "http.response.start", "status": 200 if known else 405, "headers": headers})
    await send({"type": "http.response.body", "body": _GREETING if scope["method"] == "GET" else b""})
