"""The REST application: its routes, what they share, and what answers when no route does.

Mounted by `messaging_site.asgi` for every path below `/api/`. It has no middleware: each operation authenticates,
authorises and turns errors into answers itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from starlette.types import Receive, Scope, Send

from brokers import access, topics
from brokers.coalescer import Coalescer
from brokers.database import close
from brokers.errors import NotFound, shown
from brokers.queues import topology
from brokers.rest import (
    bindings,
    dead_letters,
    documentation,
    exchanges,
    message_publishing,
    policies,
    queues,
    replays,
    tokens,
)
from brokers.rest import topics as topic_routes
from brokers.rest.bodies import BodyReader
from brokers.rest.groups import GroupRoutes
from brokers.rest.measuring import Meter
from brokers.rest.operation import Operation, respond
from brokers.rest.problems import MethodNotAllowed
from brokers.rest.queue_messages import QueueMessageRoutes
from brokers.rest.records import RecordRoutes
from brokers.rest.routing import Router
from brokers.rest.serving import Endpoint, refusal
from brokers.wakeup import Hub

_TICK_SECONDS = 1.0


def _forget(kind: str, name: str) -> None:
    if kind == "t":
        topics.forget(name)
    elif kind == "x":
        topology.forget()
    elif kind == "k":
        access.forget(name)


class RestApplication:
    """An ASGI application; `start` and `stop` belong to the server's life."""

    def __init__(self, further: Sequence[Operation] = ()) -> None:
        """With operations of packages above this one, which `messaging_site` adds."""
        self.coalescer = Coalescer()
        self.hub = Hub(_forget)
        self.operations: Sequence[Operation] = [
            *topic_routes.operations(),
            *RecordRoutes(self.coalescer, self.hub).operations(),
            *GroupRoutes(self.hub).operations(),
            *exchanges.operations(),
            *queues.operations(),
            *bindings.operations(),
            *policies.operations(),
            *message_publishing.operations(),
            *QueueMessageRoutes(self.hub).operations(),
            *dead_letters.operations(),
            *replays.operations(),
            *tokens.operations(),
            *further,
        ]
        self.operations = [*self.operations, *documentation.operations(self.operations)]
        self._bodies = BodyReader()
        self._router = Router()
        self._meters = [Meter("unknown")]
        self._ticking: asyncio.Task[None] | None = None
        for operation in self.operations:
            endpoint = Endpoint(operation, self._bodies)
            self._router.add(endpoint)
            self._meters.append(endpoint.meter)

    def start(self) -> None:
        """Begins to listen for wake-ups; call it inside the running event loop."""
        self.hub.start()
        self._ticking = asyncio.create_task(self._tick(), name="waystation-rest-tick")

    async def stop(self) -> None:
        """Finishes appends that are under way and closes the pool."""
        if self._ticking is not None:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
        await self.hub.stop()
        await self.coalescer.drain()
        self.flush_meters()
        await close()

    def flush_meters(self) -> None:
        """Brings the metrics of this process up to date, which otherwise happens every second."""
        for meter in self._meters:
            meter.flush()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._bodies.end_late()
            self.flush_meters()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request below `/api/`."""
        endpoints, parameters = self._router.find(scope)
        endpoint = endpoints.get(scope["method"])
        if endpoint is not None:
            await endpoint(parameters, scope, receive, send)
            return
        path = shown(scope["path"])
        if endpoints:
            allow = ", ".join(sorted(endpoints))
            answer = refusal(
                MethodNotAllowed(f"{shown(scope['method'])} is not allowed on {path}; allowed: {allow}", allow=allow)
            )
        else:
            answer = refusal(NotFound(f"there is nothing at {path}"))
        self._meters[0].add(answer.status, 0.0)
        await respond(send, answer, head=scope["method"] == "HEAD")
