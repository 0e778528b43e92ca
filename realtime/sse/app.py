"""Server-sent events over HTTP: the streams of topics, notifications and progress, and the tickets that open them.

An ASGI application that `messaging_site.asgi` asks before REST; its operations stand in the OpenAPI document. An error
before the first event is a problem document for a program. A browser's `EventSource` gives up for ever at anything but
a stream, so to it an error that is about its position, or that passes by itself, comes as an event.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from brokers.errors import (
    BrokerError,
    InvalidLastEventId,
    InvalidValue,
    TooManyStreams,
    Unavailable,
    shown,
)
from brokers.names import validate
from brokers.rest import documentation
from brokers.rest.bodies import BodyReader
from brokers.rest.operation import Answer, respond
from brokers.rest.problems import MethodNotAllowed
from brokers.rest.serving import Endpoint, Query, refusal
from realtime.connections import Connection
from realtime.errors import PolicyViolation
from realtime.hub import LiveHub
from realtime.origins import cross_origin, header
from realtime.sse import event
from realtime.sse.admission import Admitted, admit, preflight
from realtime.sse.following import Following
from realtime.sse.notification_stream import NotificationStream, NotificationStreamQuery
from realtime.sse.operations import EVENT_STREAM, operations
from realtime.sse.progress_stream import ProgressStream, ProgressStreamQuery
from realtime.sse.stream import Stream, StreamOver
from realtime.sse.topic_stream import TopicStream, TopicStreamQuery
from realtime.sse.transport import StreamTransport

KEEP_ALIVE_SECONDS: Final = 15.0
MAX_EVENT_ID: Final = 11_000
"""Characters of a Last-Event-ID: as many as a position in a topic of the most partitions may have."""
TICKETS: Final = "/api/v1/tickets"
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"connection", b"close"),
]
_ALLOW: Final = "GET, HEAD, OPTIONS"
_TASK: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

Make = Callable[[str, Any, "str | None"], Stream]


class Route:
    """A path, what its query may say, and what makes its stream of path parameter, query and last event id."""

    def __init__(self, pattern: str, query: type[Any], make: Make) -> None:
        self.pattern = re.compile(pattern)
        self.query = Query(query)
        self.make = make


class StreamApplication:
    """Serves the streams of one process."""

    def __init__(self, live: LiveHub) -> None:
        self._live = live
        self._following = Following(live.hub)
        self.operations = operations()
        documentation.describe(self.operations)
        self._tickets = Endpoint(self.operations[0], BodyReader())
        self._routes = [
            Route(r"/api/v1/topics/([^/]+)/stream", TopicStreamQuery, self._of_topic),
            Route(r"/api/notifications()/stream", NotificationStreamQuery, self._of_notifications),
            Route(r"/api/progress/([^/]+)/stream", ProgressStreamQuery, self._of_progress),
        ]

    def handles(self, scope: Scope) -> bool:
        """Whether a request's path is one of a stream or of tickets."""
        path: str = scope["path"]
        return path == TICKETS or (path.endswith("/stream") and self._find(path) is not None)

    def _find(self, path: str) -> tuple[Route, str] | None:
        for route in self._routes:
            if match := route.pattern.fullmatch(path):
                return route, match[1]
        return None

    # -- the streams ---------------------------------------------------------------------------------------------

    def _of_topic(self, name: str, query: TopicStreamQuery, last_event_id: str | None) -> Stream:
        validate("topic", name, pointer="/topic")
        return TopicStream(self._live.feeds, name, query, last_event_id)

    def _of_notifications(self, _: str, query: NotificationStreamQuery, last_event_id: str | None) -> Stream:
        return NotificationStream(self._following, query, last_event_id)

    def _of_progress(self, task: str, query: ProgressStreamQuery, last_event_id: str | None) -> Stream:
        if not _TASK.fullmatch(task):
            raise InvalidValue(f"{shown(task)} is no id of a task", pointer="/task_id")
        return ProgressStream(self._following, task, last_event_id)

    # -- serving -------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request whose path it handles."""
        headers = scope["headers"]
        found = self._find(scope["path"])
        shared = cross_origin(headers)
        answer: Answer
        try:
            if scope["method"] == "OPTIONS" and (allowed := preflight(headers, "POST" if found is None else "GET")):
                answer = Answer(204, headers=allowed)
            elif found is None:
                await self._ticket(scope, receive, send)
                return
            else:
                await self._serve(*found, scope, receive, send, shared)
                return
        except StreamOver:
            answer = Answer(204, headers=shared)
        except BrokerError as error:
            answer = refusal(error)
            if found is not None and EVENT_STREAM in (header(headers, b"accept") or ""):
                answer = _as_stream(error) or answer
            answer.headers += shared
        await respond(send, answer, head=scope["method"] == "HEAD")

    async def _ticket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        if scope["method"] != "POST":
            raise MethodNotAllowed(f"{scope['path']} can only be posted to", allow="POST, OPTIONS")

        async def send_shared(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *cross_origin(headers)]
            await send(message)

        await self._tickets({}, scope, receive, send_shared)

    async def _serve(
        self,
        route: Route,
        parameter: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        shared: list[tuple[bytes, bytes]],
    ) -> None:
        """Streams until the client or the stream ends; what it raises becomes the answer, with the headers `shared`."""
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{scope['path']} can only be read", allow=_ALLOW)
        query = route.query.read(scope["query_string"])
        self._live.registry.check_room()  # before a ticket is used up
        admitted = await admit(scope, query.ticket)
        shared += admitted.headers  # of errors too: an EventSource that comes back after one has no other ticket
        stream = route.make(parameter, query, _last_event_id(scope, query.last_event_id))
        stream.check(admitted.principal)
        await stream.find()
        headers = [*_HEADERS, *shared]
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        transport = StreamTransport(send)
        connection = self._open(stream, transport, admitted, scope)
        try:
            connection.write(event.retry(event.RETRY_MS))
            await stream.open(connection)
            await transport.begin(200, headers)
            self._keep_alive(stream, connection)
            while (await receive())["type"] != "http.disconnect":
                continue
        finally:
            transport.gone()
            self._live.registry.close(connection)
            stream.close()

    def _open(self, stream: Stream, transport: StreamTransport, admitted: Admitted, scope: Scope) -> Connection:
        client = scope.get("client")
        try:
            connection = self._live.registry.open(
                "sse",
                transport,
                principal=admitted.principal,
                credential=admitted.credential,
                user_agent=header(scope["headers"], b"user-agent") or "",
                address=client[0] if client else "",
            )
        except PolicyViolation as error:
            raise TooManyStreams(error.detail) from error
        connection.on_fail = _last_word
        connection.on_end = stream.close
        connection.on_principal = stream.check
        connection.subscriptions["stream"] = stream.description
        return connection

    def _keep_alive(self, stream: Stream, connection: Connection) -> None:
        def visit(now: float) -> float | None:
            if connection.ended or not connection.write(stream.keep_alive()):
                return None
            return KEEP_ALIVE_SECONDS

        self._live.registry.wheel.visit_in(KEEP_ALIVE_SECONDS, visit)


def error_event(error: BrokerError) -> bytes:
    """An error as a stream's last event."""
    return event.event("error", event.to_json({"code": error.code, "detail": error.detail}))


def _as_stream(error: BrokerError) -> Answer | None:
    """An error as a stream of one event, after which an `EventSource` comes back; None where that has no point."""
    if isinstance(error, InvalidLastEventId):
        wait = event.ERROR_RETRY_MS
    elif isinstance(error, Unavailable):
        wait = event.busy_retry_ms()
    else:
        return None
    return Answer(200, event.retry(wait) + error_event(error), content_type=_HEADERS[0][1])


def _last_word(error: BrokerError, receipt_id: str | None) -> bytes:
    return error_event(error)


def _last_event_id(scope: Scope, of_query: str | None) -> str | None:
    """Where to go on; an empty id is none (WHATWG HTML, 9.2.3)."""
    given = [value for name, value in scope["headers"] if name == b"last-event-id"]
    if len(given) > 1:
        raise InvalidLastEventId("there is more than one Last-Event-ID header; send one")
    found = given[0].decode("latin-1") if given and given[0] else of_query
    if found and len(found) > MAX_EVENT_ID:
        raise InvalidLastEventId(f"the Last-Event-ID has {len(found)} characters; {MAX_EVENT_ID} are allowed")
    return found or None
