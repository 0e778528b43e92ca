"""`/healthz`, `/readyz` and `/metrics`: whether the process lives, whether to send it traffic, and its figures."""

from __future__ import annotations

import ipaddress

import msgspec
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import Receive, Scope, Send

from brokers.access import aauthenticate, authorize, bearer
from brokers.errors import BrokerError, Unavailable
from brokers.rest.operation import Answer, respond
from brokers.rest.problems import body_of, headers_of
from brokers.rest.threads import in_thread
from brokers.selectors import parts
from messaging_site.lifespan import Lifespan
from messaging_site.telemetry import exposition


class Readiness(msgspec.Struct):
    """Whether this process can serve, and the state of each part."""

    ready: bool
    reasons: list[str]
    parts: dict[str, str]


class HealthApplication:
    """An ASGI application for three paths."""

    PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

    def __init__(self, lifespan: Lifespan) -> None:
        self._lifespan = lifespan
        self._migrated = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        try:
            if scope["method"] not in ("GET", "HEAD"):
                answer = Answer(405, b"", [(b"allow", b"GET, HEAD")])
            elif scope["path"] == "/healthz":
                answer = Answer(body=b'{"status":"alive"}')
            elif scope["path"] == "/readyz":
                answer = await self._ready()
            else:
                answer = await self._metrics(scope)
        except BrokerError as error:
            status, body = body_of(error)
            answer = Answer(status, body, headers_of(error), b"application/problem+json")
        await respond(send, answer)

    async def _ready(self) -> Answer:
        reasons = ["the process is stopping"] if self._lifespan.draining else []
        found: list[parts.Part] = []
        try:
            found = await in_thread(parts.stores)
            if not self._migrated and not any(part.state == "down" for part in found):
                missing = await in_thread(_unapplied)
                reasons += [f"migration {name} is not applied" for name in missing]
                self._migrated = not missing
        except Unavailable as error:
            reasons.append(error.detail)
        reasons += [f"{part.name}: {part.detail}" for part in found if part.state == "down"]
        states = {part.name: f"{part.state}: {part.detail}" for part in found}
        body = Readiness(not reasons, reasons, states)
        return Answer(503 if reasons else 200, body, [(b"retry-after", b"1")] if reasons else [])

    async def _metrics(self, scope: Scope) -> Answer:
        if not _from_loopback(scope):
            header = dict(scope["headers"]).get(b"authorization")
            principal = await aauthenticate(bearer(header.decode("latin-1") if header else None))
            authorize(principal, "describe", "server", "")
        text = await in_thread(exposition)
        return Answer(body=text, content_type=CONTENT_TYPE_LATEST.encode())


def _from_loopback(scope: Scope) -> bool:
    """Whether the caller is on this machine and no proxy stands between."""
    client = scope.get("client")
    names = {name for name, _ in scope["headers"]}
    if client is None or names & {b"x-forwarded-for", b"forwarded", b"x-real-ip"}:
        return False
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _unapplied() -> list[str]:
    executor = MigrationExecutor(connection)
    return [f"{m.app_label}.{m.name}" for m, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
