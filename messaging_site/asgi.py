"""Joins the planes: REST and health go straight to their ASGI applications, everything else to Django.

`uvicorn messaging_site.asgi:application` and `daphne messaging_site.asgi:application` both serve it; daphne knows no
lifespan, so what needs starting is started by the first request there.
"""

from __future__ import annotations

import os
import warnings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "messaging_site.settings")
# WhiteNoise answers with files that it reads synchronously; they are small, and read in one piece.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter
from starlette.types import Receive, Scope, Send

from brokers import declarations
from brokers.rest.app import RestApplication
from messaging_site.console import live_events
from messaging_site.health import HealthApplication
from messaging_site.lifespan import Lifespan
from realtime.asgi import RealtimeApplication
from realtime.hub import LiveHub
from realtime.sse.app import StreamApplication
from scheduling.rest import executors as executor_operations
from scheduling.rest import locks as lock_operations
from scheduling.rest import tasks as task_operations

declarations.discover()

rest = RestApplication(
    [*task_operations.operations(), *lock_operations.operations(), *executor_operations.operations()]
)
live = LiveHub(rest.hub, rest.coalescer)
realtime = RealtimeApplication(live)
streams = StreamApplication(live)
console_events = live_events.ConsoleEvents(live)
lifespan = Lifespan(rest, live)
health = HealthApplication(lifespan)


async def http(scope: Scope, receive: Receive, send: Send) -> None:
    """Dispatches by path; the first request starts what a lifespan has not."""
    path: str = scope["path"]
    lifespan.ensure_started()
    if path == "/ws" or path.startswith("/ws/"):
        await realtime(scope, receive, send)
    elif streams.handles(scope):
        await streams(scope, receive, send)
    elif path.startswith("/api/") or path == "/api":
        await rest(scope, receive, send)
    elif path in HealthApplication.PATHS:
        await health(scope, receive, send)
    elif path == live_events.PATH:
        await console_events(scope, receive, send)
    else:
        await django_application(dict(scope), receive, send)  # type: ignore[arg-type]


async def websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """Every WebSocket is live push's, which refuses those of other paths."""
    lifespan.ensure_started()
    await realtime(scope, receive, send)


application = ProtocolTypeRouter({"http": http, "websocket": websocket, "lifespan": lifespan})
