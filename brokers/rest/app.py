"""The REST application: its routes, what they share, and what answers when no route does.

Mounted by `messaging_site.asgi` for every path below `/api/`. It has no middleware: each operation authenticates,
authorises and turns errors into answers itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from brokers import access, processes, topics
from brokers.coalescer import Coalescer
from brokers.database import close
from brokers.errors import NotFound, shown
from brokers.rest import documentation, tokens
from brokers.rest import topics as topic_routes
from brokers.rest.operation import Answer, Operation, respond
from brokers.rest.problems import MethodNotAllowed, body_of, headers_of
from brokers.rest.records import RecordRoutes
from brokers.wakeup import Hub


def _forget(kind: str, name: str) -> None:
    if kind == "t":
        topics.forget(name)
    elif kind == "k":
        access.forget(name)


class RestApplication:
    """An ASGI application; `start` and `stop` belong to the server's life."""

    def __init__(self) -> None:
        self.coalescer = Coalescer()
        self.hub = Hub(_forget)
        self.heartbeat = processes.Heartbeat("web")
        self.operations: Sequence[Operation] = [
            *RecordRoutes(self.coalescer, self.hub).operations(),
            *topic_routes.operations(),
            *tokens.operations(),
        ]
        self.operations = [*self.operations, *documentation.operations(self.operations)]
        self._routes = [Route(made.path, made, methods=[made.method]) for made in self.operations]

    def start(self) -> None:
        """Begins to listen for wake-ups; call it inside the running event loop."""
        self.hub.start()

    async def stop(self) -> None:
        """Finishes appends that are under way and closes the pool."""
        await self.hub.stop()
        await self.coalescer.drain()
        await close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request below `/api/`."""
        allow: set[str] = set()
        for route in self._routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                scope.update(child)
                await route.app(scope, receive, send)
                return
            if match is Match.PARTIAL:
                allow |= route.methods or set()
        path = shown(scope["path"])
        if allow:
            methods = ", ".join(sorted(allow))
            error: NotFound | MethodNotAllowed = MethodNotAllowed(
                f"{scope['method']} is not allowed on {path}; {methods} {'is' if len(allow) == 1 else 'are'}",
                allow=methods,
            )
        else:
            error = NotFound(f"there is nothing at {path}")
        status, body = body_of(error)
        await respond(send, Answer(status, body, headers_of(error), b"application/problem+json"))
