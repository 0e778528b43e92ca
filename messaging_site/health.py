"""`/healthz`, `/readyz` and `/metrics`: whether the process lives, whether to send it traffic, and its figures.

They are declared as operations are and stand in the OpenAPI document. Called by `asgi` for these three paths.
"""

from __future__ import annotations

import asyncio
import ipaddress

import msgspec
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http.request import split_domain_port, validate_host
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import Receive, Scope, Send

from brokers.access import aauthenticate_header, authorize
from brokers.errors import BrokerError, Unavailable
from brokers.rest import documentation
from brokers.rest.operation import PUBLIC, Access, Answer, Call, Handler, Operation, respond
from brokers.rest.problems import MethodNotAllowed
from brokers.rest.serving import ANONYMOUS, refusal
from brokers.rest.threads import in_thread
from brokers.selectors import parts
from messaging_site.lifespan import Lifespan
from messaging_site.telemetry import exposition

CHECK_SECONDS = 2.0
"""A database that has not answered by then is called away."""
_ALLOW = "GET, HEAD"
_LOCAL_NAMES = ["localhost", ".localhost", "127.0.0.1", "[::1]"]
_PROXIED = frozenset({b"x-forwarded-for", b"forwarded", b"x-real-ip"})


class Liveness(msgspec.Struct):
    """The process answers."""

    status: str


class Readiness(msgspec.Struct):
    """Whether this process can serve, why not, and the state of each part."""

    ready: bool
    reasons: list[str]
    parts: dict[str, str]


class HealthApplication:
    """An ASGI application for three paths."""

    PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

    def __init__(self, lifespan: Lifespan) -> None:
        self._lifespan = lifespan
        self._migrated = False
        self._checking: asyncio.Task[tuple[list[parts.Part], list[str]]] | None = None
        self.operations = [
            _operation("/healthz", "Whether the process lives", self.get_healthz, {200: Liveness}),
            _operation("/readyz", "Whether to send traffic", self.get_readyz, {200: Readiness, 503: Readiness}),
            _operation(
                "/metrics",
                "Figures for Prometheus",
                self.get_metrics,
                {200: None},
                access=(Access("describe", "server", why="unless asked from the same machine"),),
            ),
        ]
        self._handlers = {operation.path: operation.handler for operation in self.operations}
        documentation.describe(self.operations)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        try:
            if scope["method"] not in ("GET", "HEAD"):
                raise MethodNotAllowed(f"{scope['path']} can only be read", allow=_ALLOW)
            if scope["path"] == "/metrics":
                await _authorize_metrics(scope)
            call = Call(ANONYMOUS, {}, None, None, b"", "", {})
            answer = await self._handlers[scope["path"]](call)
        except BrokerError as error:
            answer = refusal(error)
        await respond(send, answer, head=scope["method"] == "HEAD")

    async def get_healthz(self, call: Call) -> Answer:
        """Answers 200 while the process can; nothing else is looked at."""
        return Answer(body=Liveness("alive"))

    async def get_readyz(self, call: Call) -> Answer:
        """Whether the database and its migrations are usable; 503 with the reasons otherwise.

        Valkey (or Redis) being away is named and leaves it 200: only wake-ups get slower.
        """
        reasons = ["the process is stopping"] if self._lifespan.draining else []
        found, missing = await self._checked()
        reasons += [f"migration {name} is not applied" for name in missing]
        reasons += [f"{part.name}: {part.detail}" for part in found if part.state == "down"]
        states = {part.name: f"{part.state}: {part.detail}" for part in found}
        body = Readiness(not reasons, reasons, states)
        return Answer(503 if reasons else 200, body, [(b"retry-after", b"1")] if reasons else [])

    async def get_metrics(self, call: Call) -> Answer:
        """Figures of all processes of this server, in Prometheus' text format."""
        return Answer(body=await in_thread(exposition), content_type=CONTENT_TYPE_LATEST.encode())

    async def _checked(self) -> tuple[list[parts.Part], list[str]]:
        """The stores, and migrations that are missing. All who ask at once share one look, and so one thread."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._look(), name="waystation-readiness")
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await asyncio.shield(self._checking)
        except TimeoutError:
            return [parts.Part("PostgreSQL", "down", f"has not answered for {CHECK_SECONDS:.0f} seconds")], []

    async def _look(self) -> tuple[list[parts.Part], list[str]]:
        missing: list[str] = []
        try:
            found = await in_thread(parts.stores)
            if not self._migrated and not any(part.state == "down" for part in found):
                missing = await in_thread(_unapplied)
                self._migrated = not missing
        except Unavailable as error:
            return [parts.Part("PostgreSQL", "down", error.detail)], []
        return found, missing


def _operation(
    path: str,
    summary: str,
    handler: Handler,
    answers: dict[int, type[msgspec.Struct] | None],
    *,
    access: tuple[Access, ...] = PUBLIC,
) -> Operation:
    return Operation(
        method="GET",
        path=path,
        summary=summary,
        tag="Health",
        access=access,
        public=not access,
        token_optional=bool(access),
        handler=handler,
        answers=answers,
        answer_type="application/json" if answers[200] else "text/plain",
        problems=(Unavailable,) if access else (),
    )


async def _authorize_metrics(scope: Scope) -> None:
    """Raises `Unauthenticated` or `AccessDenied` unless the caller is on this machine or may describe the server."""
    headers = dict(scope["headers"])
    if not (_from_loopback(scope) and not _PROXIED & headers.keys() and _named_as_ours(headers.get(b"host", b""))):
        authorize(await aauthenticate_header(headers.get(b"authorization")), "describe", "server", "")


def _from_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _named_as_ours(host: bytes) -> bool:
    """Whether Host is one of our names: else a foreign page may have made its own name lead to this machine."""
    domain, _ = split_domain_port(host.decode("latin-1"))
    return bool(domain) and validate_host(domain, [*_LOCAL_NAMES, *settings.ALLOWED_HOSTS])


def _unapplied() -> list[str]:
    executor = MigrationExecutor(connection)
    return [f"{m.app_label}.{m.name}" for m, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
