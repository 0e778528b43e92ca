"""The console's own live updates: `GET /admin/events?kinds=topics,queues`, one stream for each open page.

Its events say that something of a kind has changed, and nothing else: the page then fetches its regions again, by the
views that made it. So there is nothing to resume, and no permission to ask for each event; an event without the right
to see anything of its kind is not sent. Asked by `messaging_site.asgi` before Django. `static/console/js/stream.js`
reads it.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send

from brokers.access import Principal
from brokers.errors import (
    BrokerError,
    InvalidToken,
    InvalidValue,
    OriginNotAllowed,
    TooManyStreams,
    Unauthenticated,
    shown,
)
from brokers.rest.operation import respond
from brokers.rest.problems import MethodNotAllowed
from brokers.rest.serving import refusal
from messaging_site.console.live_changes import KINDS, Changes
from realtime import credentials, origins
from realtime.connections import Connection
from realtime.credentials import SessionCredential
from realtime.errors import PolicyViolation
from realtime.hub import LiveHub
from realtime.origins import header
from realtime.sse.transport import StreamTransport

PATH: Final = "/admin/events"
BEAT_SECONDS: Final = 15.0
"""How often a page hears something: `stream.js` takes three times as long without it for a dead stream."""
RETRY_MS: Final = 3000
BACKLOG_BYTES: Final = 4096
"""What may wait for a page that does not read; what changes meanwhile is told once, when it has read."""
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
    (b"connection", b"close"),
]
_EVENTS: Final = {kind: f"event: {kind}\ndata: {{}}\n\n".encode() for kind in KINDS}
_BEAT: Final = b"event: beat\ndata: {}\n\n"
_OF_RESOURCES: Final[dict[str, frozenset[str]]] = {
    "topics": frozenset({"topic"}),
    "groups": frozenset({"topic", "group"}),
    "exchanges": frozenset({"exchange"}),
    "queues": frozenset({"queue"}),
    "dead-letters": frozenset({"topic", "group", "queue"}),
    "replays": frozenset({"topic", "group", "queue"}),
    "alerts": frozenset({"server"}),
    "connections": frozenset({"server"}),
    "locks": frozenset({"lock"}),
    "tasks": frozenset({"schedule"}),
    "executors": frozenset({"server"}),
}
"""The types of resources of which somebody has to be granted something to be told of a kind."""


class Page:
    """One open page's stream; also the `Watcher` that is told of changes."""

    def __init__(self, kinds: frozenset[str]) -> None:
        self._wanted = kinds
        self.kinds: frozenset[str] = frozenset()
        self.connection: Connection | None = None
        self._missed: set[str] = set()

    def admit(self, principal: Principal) -> None:
        """Says whose page it is: it is told of what they may see something of."""
        granted = {rule.resource_type for rule in principal.rules if rule.effect != "deny"}
        self.kinds = frozenset(k for k in self._wanted if principal.superuser or granted & _OF_RESOURCES[k])

    def changed(self, kind: str) -> None:
        """Tells the page; later, when it has not read what came before."""
        self._missed.add(kind)
        self._tell()

    def _tell(self) -> bool:
        """False once nothing can be written any more. What is told counts as no message: a page that shows live
        connections would otherwise change what it shows by being told of it."""
        if self.connection is None or self.connection.ended:
            return False
        if self._missed and self.connection.transport.buffered() < BACKLOG_BYTES:
            told = b"".join(_EVENTS[kind] for kind in sorted(self._missed))
            self._missed.clear()
            return self.connection.write(told)
        return True

    def beat(self) -> bool:
        """Lets the page hear that the stream lives; False as `_tell`."""
        if not self._tell() or self.connection is None:
            return False
        waiting = self.connection.transport.buffered() >= BACKLOG_BYTES
        return waiting or self.connection.write(_BEAT)


class ConsoleEvents:
    """An ASGI application for the one path."""

    def __init__(self, live: LiveHub) -> None:
        self._live = live
        self.changes = Changes(live.hub)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one stream, or says why not."""
        try:
            await self._serve(scope, receive, send)
        except BrokerError as error:
            await respond(send, refusal(error), head=scope["method"] == "HEAD")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            raise MethodNotAllowed(f"{PATH} can only be read", allow="GET")
        page = Page(wanted_kinds(scope["query_string"]))
        credential, principal = await _admitted(scope)
        page.admit(principal)
        transport = StreamTransport(send)
        connection = self._open(page, transport, principal, credential, scope)
        try:
            self.changes.add(page)
            await self.changes.begun()
            connection.write(b"retry: %d\n\n" % RETRY_MS)
            connection.write(b"event: connected\ndata: %b\n\n" % msgspec.json.encode({"kinds": sorted(page.kinds)}))
            self._live.registry.wheel.visit_in(BEAT_SECONDS, lambda now: BEAT_SECONDS if page.beat() else None)
            await transport.begin(200, _HEADERS)
            while (await receive())["type"] != "http.disconnect":
                continue
        finally:
            self.changes.remove(page)
            transport.gone()
            self._live.registry.close(connection)

    def _open(
        self,
        page: Page,
        transport: StreamTransport,
        principal: Principal,
        credential: SessionCredential,
        scope: Scope,
    ) -> Connection:
        client = scope.get("client")
        try:
            connection = self._live.registry.open(
                "sse",
                transport,
                principal=principal,
                credential=credential,
                user_agent=header(scope["headers"], b"user-agent") or "",
                address=client[0] if client else "",
            )
        except PolicyViolation as error:
            raise TooManyStreams(error.detail) from error
        connection.subscriptions["console"] = f"console: {', '.join(sorted(page.kinds)) or 'nothing'}"
        connection.on_fail = _last_word
        connection.on_end = lambda: self.changes.remove(page)
        connection.on_principal = page.admit
        page.connection = connection
        return connection


def wanted_kinds(query: bytes) -> frozenset[str]:
    """What the page asks to be told of; raises `InvalidValue` unless it is some of `KINDS`."""
    try:
        given = parse_qs(query.decode("ascii"), strict_parsing=True, errors="strict", max_num_fields=1)["kinds"]
    except (ValueError, KeyError) as error:
        raise InvalidValue("say what to be told of: ?kinds=topics,queues") from error
    kinds = frozenset(given[0].split(","))
    unknown = sorted(kinds.difference(KINDS))
    if unknown:
        raise InvalidValue(f"{shown(unknown[0])} is none of {', '.join(KINDS)}", pointer="/kinds")
    return kinds


async def _admitted(scope: Scope) -> tuple[SessionCredential, Principal]:
    """The session of a member of staff, from a page of our own.

    Raises: OriginNotAllowed; Unauthenticated and InvalidToken; Unavailable.
    """
    if not origins.is_own_page(scope["headers"]):
        raise OriginNotAllowed("only the console's own pages may read its events")
    credential = credentials.of_cookies(scope["headers"], of_staff=True)
    if credential is None:
        raise Unauthenticated("sign in to the console")
    try:
        return credential, await credential.principal()
    except InvalidToken as error:
        raise Unauthenticated("sign in to the console") from error


def _last_word(error: BrokerError, receipt_id: str | None) -> bytes:
    """Why the stream ends; no event named `error`, which a page could not tell from a lost connection."""
    return b"event: ended\ndata: %b\n\n" % msgspec.json.encode({"code": error.code})
