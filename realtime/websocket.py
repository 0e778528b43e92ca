"""A STOMP session over a WebSocket: the handshake, and then what comes in to the session.

`asgi` calls `serve` for `/ws`, and SockJS in a `Dialect` of its own. On uvicorn with
`FrameProtocol` nothing is sent through ASGI after the handshake.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from starlette.types import Message, Receive, Scope, Send

from brokers.access import Principal
from brokers.errors import AccessDenied, BrokerError, InvalidToken, Unauthenticated, Unavailable
from realtime import credentials, origins
from realtime.asgi_transport import AsgiTransport, content
from realtime.connections import Connection, Transport
from realtime.credentials import Credential
from realtime.errors import ProtocolError
from realtime.frame_protocol import EXTENSION, FrameProtocol, FrameTransport, message_frame

if TYPE_CHECKING:
    from realtime.hub import LiveHub

SUBPROTOCOLS: Final = ("v12.stomp", "v11.stomp", "v10.stomp")
"""In the order they are preferred."""
_STATUSES: Final = ((AccessDenied, 403), (Unauthenticated, 401), (Unavailable, 503))


class Session(Protocol):
    """What speaks a protocol over a connection; it ends the connection itself when something is wrong."""

    async def received(self, data: bytes) -> None:
        """Handles what came, in order; the next comes when this returns."""

    async def closed(self) -> None:
        """Lets go of everything: the connection is over."""


class Handshake(NamedTuple):
    """What was found out before the upgrade."""

    subprotocol: str | None
    principal: Principal | None
    credential: Credential | None


async def handshake(scope: Scope, *, subprotocols: Sequence[str] = SUBPROTOCOLS) -> Handshake:
    """Judges a WebSocket's request by its origin, subprotocol and credentials; nothing is accepted yet.

    A token that is not valid is refused; a console session that has ended is as good as none.
    Raises: AccessDenied, ProtocolError, Unauthenticated, Unavailable.
    """
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if not origins.is_allowed(headers):
        raise AccessDenied("pages of this origin may not connect")
    offered = scope.get("subprotocols") or []
    common = next((name for name in subprotocols if name in offered), None)
    if offered and common is None and subprotocols:
        raise ProtocolError(f"offer one of the subprotocols {', '.join(subprotocols)}, or none", "no_subprotocol")
    credential: Credential | None = credentials.of_authorization(headers)
    if credential is not None:
        return Handshake(common, await credential.principal(), credential)
    session = credentials.of_cookies(headers) if origins.is_page(headers) else None
    if session is not None:
        try:
            return Handshake(common, await session.principal(), session)
        except InvalidToken:
            pass
    return Handshake(common, None, None)


async def refuse(scope: Scope, send: Send, error: BrokerError) -> None:
    """Answers the handshake with the error's status and its text; 403 from a server that cannot."""
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 400)
    await respond(scope, send, status, error.code, error.detail)


async def respond(scope: Scope, send: Send, status: int, code: str, detail: str) -> None:
    """Answers the handshake with a status instead of an upgrade."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": code})
        return
    body = json.dumps({"status": status, "code": code, "detail": detail}).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="waystation"'))
    if status == 503:
        headers.append((b"retry-after", b"2"))
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})


def transport_for(scope: Scope, send: Send, kind: str) -> Transport:
    """The best transport that the server of this scope has."""
    protocol = (scope.get("extensions") or {}).get(EXTENSION)
    if isinstance(protocol, FrameProtocol):
        return FrameTransport(protocol, kind, message_frame)
    return AsgiTransport(send, kind, content)


def wrapping(transport: Transport, encode: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The `wrap` over such a transport of what makes a message's content otherwise (SockJS: an array of JSON)."""
    return _framed(encode) if isinstance(transport, FrameTransport) else encode


@cache
def _framed(encode: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """One function for all connections of an encoding, since it is part of what an encoded batch is known by."""
    return lambda payload: message_frame(encode(payload))


class Dialect(NamedTuple):
    """How a session's payloads travel over a WebSocket."""

    kind: str = "websocket"
    """Of its transports, for people."""
    subprotocols: Sequence[str] = SUBPROTOCOLS
    speak: Callable[[Transport], Transport] | None = None
    """Makes the connection's transport of what carries plain messages, as soon as the WebSocket is open."""
    decode: Callable[[Message], Sequence[bytes]] | None = None
    """What the session gets of a message; it may raise `BrokerError`."""


PLAIN: Final = Dialect()


async def serve(
    scope: Scope,
    receive: Receive,
    send: Send,
    live: LiveHub,
    make: Callable[[Connection], Session],
    dialect: Dialect = PLAIN,
) -> None:
    """Serves one WebSocket from its handshake to its end."""
    if (await receive())["type"] != "websocket.connect":
        return
    try:
        live.registry.check_room()
        found = await handshake(scope, subprotocols=dialect.subprotocols)
    except BrokerError as error:
        await refuse(scope, send, error)
        return
    carrier = transport_for(scope, send, dialect.kind)
    await send({"type": "websocket.accept", "subprotocol": found.subprotocol})
    transport = carrier if dialect.speak is None else dialect.speak(carrier)
    connection = open_connection(scope, live, transport, found)
    scope["headers"] = []  # thousands of idle connections would keep them
    if connection is not None:
        await _converse(receive, live, connection, make(connection), carrier, dialect)
    if isinstance(carrier, AsgiTransport):
        await carrier.wait_gone()


def open_connection(scope: Scope, live: LiveHub, transport: Transport, found: Handshake) -> Connection | None:
    """The connection of an accepted handshake, which has to log in soon; None when it was ended at once."""
    try:
        connection = live.registry.open(
            "stomp",
            transport,
            principal=found.principal,
            credential=found.credential,
            user_agent=origins.header(scope["headers"], b"user-agent") or "",
            address=scope["client"][0] if scope.get("client") else "",
        )
    except BrokerError as error:
        transport.end((), 1013 if isinstance(error, Unavailable) else 1008, error.code)
        return None
    live.registry.expect_login(connection)
    return connection


async def _converse(
    receive: Receive, live: LiveHub, connection: Connection, session: Session, carrier: Transport, dialect: Dialect
) -> None:
    """Gives the session what comes in, until the connection is over."""
    try:
        while not connection.ended:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                break
            connection.heard()
            for data in (payload(message),) if dialect.decode is None else dialect.decode(message):
                await session.received(data)
    except BrokerError as error:
        connection.fail(error)
    finally:
        live.registry.close(connection)
        if isinstance(carrier, AsgiTransport) and not carrier.closing:
            carrier.gone()
        await session.closed()


def payload(message: Message) -> bytes:
    """The content of a WebSocket message, text or binary."""
    text = message.get("text")
    if text is not None:
        return str(text).encode()
    data: bytes = message.get("bytes") or b""
    return data
