"""The ASGI application of `/ws`: STOMP over a plain WebSocket, and SockJS below it.

Composed by `messaging_site.asgi`, in front of Django and REST: an idle connection costs one coroutine.
"""

from __future__ import annotations

from typing import Final

from starlette.types import Receive, Scope, Send

from realtime import websocket
from realtime.connections import Connection
from realtime.hub import LiveHub
from realtime.sockjs import answers
from realtime.sockjs.app import SockJs
from realtime.stomp.session import StompSession

PREFIX: Final = "/ws"
_RAW: Final = frozenset({"", "websocket"})


def handles(scope: Scope) -> bool:
    """Whether an HTTP request or a WebSocket belongs here; every WebSocket does."""
    path: str = scope["path"]
    return scope["type"] == "websocket" or path == PREFIX or path.startswith(f"{PREFIX}/")


class RealtimeApplication:
    """Dispatches `/ws` by path."""

    def __init__(self, live: LiveHub) -> None:
        self._live = live
        self._sockjs = SockJs(live, self._session)
        live.stopping.append(self._sockjs.stop)

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
                await self._sockjs(scope, receive, send, rest)
        elif rest:
            await self._sockjs(scope, receive, send, rest)
        else:
            await answers.greeting(scope, send)
