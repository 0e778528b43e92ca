"""Everything below `/ws` that is SockJS: what its URLs are, who may use them, and in which process a session is.

`realtime.asgi` calls it. JSONP, `htmlfile` and the iframe page are left out: by them, pages of any origin could read
what a session brings (docs/sockjs.md).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from django.conf import settings
from starlette.types import Receive, Scope, Send

from brokers.errors import AccessDenied, BrokerError, Unauthenticated, Unavailable
from realtime import origins, websocket
from realtime.connections import Connection, Transport
from realtime.hub import LiveHub
from realtime.sockjs import answers, receiving, sending, socket_transport
from realtime.sockjs.peers import Peers
from realtime.sockjs.sessions import Sessions
from realtime.websocket import Dialect, Session

MAX_NAME: Final = 128
"""Characters of the server's and the session's name in a URL."""
_MAX_DIRECTORY_BYTES: Final = 80
"""The path of a Unix socket is at most 103 bytes long on some systems; this leaves room for its name."""
_SEND: Final = "xhr_send"
_SOCKET: Final = "websocket"
_STATUSES: Final = ((AccessDenied, 403), (Unauthenticated, 401), (Unavailable, 503))


class SockJs:
    """The SockJS service of one web process."""

    def __init__(
        self,
        live: LiveHub,
        session_factory: Callable[[Connection], Session],
        *,
        directory: Path | None = None,
        response_bytes: int = receiving.RESPONSE_BYTES,
    ) -> None:
        """`directory` is where the processes of one server find each other."""
        self._live = live
        self._make = session_factory
        self._response_bytes = response_bytes
        self._sessions = Sessions(live, session_factory)
        self._peers = Peers(
            directory or _directory(settings.DATA_DIR), lambda name: self._sessions.get(name) is not None, self._here
        )

    async def stop(self) -> None:
        """Ends all sessions over HTTP."""
        await self._sessions.stop()
        await self._peers.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, rest: str) -> None:
        """Serves a WebSocket or a request; `rest` is its path below `/ws/`."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send, rest)
        else:
            await self._request(scope, receive, send, rest)

    # -- WebSockets -----------------------------------------------------------------------------------------------

    async def _socket(self, scope: Scope, receive: Receive, send: Send, rest: str) -> None:
        if _names(rest)[1] != _SOCKET:
            await receive()
            await websocket.respond(scope, send, 404, "not_found", "there is no WebSocket at this path")
            return
        dialect = Dialect(socket_transport.KIND, (), self._speak, socket_transport.decode)
        await websocket.serve(scope, receive, send, self._live, self._make, dialect)

    def _speak(self, carrier: Transport) -> Transport:
        return socket_transport.SocketTransport(carrier, self._live.registry)

    # -- requests -------------------------------------------------------------------------------------------------

    async def _request(self, scope: Scope, receive: Receive, send: Send, rest: str) -> None:
        method = _method(rest)
        if method is None:
            await answers.answer(send, 404)
        elif not origins.is_allowed(scope["headers"]):
            await answers.answer(send, 403, (), b"pages of this origin may not connect\n", answers.TEXT)
        elif scope["method"] == "OPTIONS" and rest != _SOCKET:
            await answers.preflight(scope, send, method)
        elif scope["method"] != method:
            await answers.not_allowed(send, method if rest == _SOCKET else f"OPTIONS, {method}")
        elif rest == "info":
            await answers.info(scope, send)
        elif rest == _SOCKET or rest.endswith(f"/{_SOCKET}"):
            await answers.answer(send, 400, (), b'Can "Upgrade" only to "WebSocket".\n', answers.TEXT)
        else:
            session, _ = _names(rest)
            if self._sessions.get(session) is not None or not await self._peers.pass_on(
                session, scope, receive, send, rest
            ):
                await self._here(scope, receive, send, rest)

    async def _here(self, scope: Scope, receive: Receive, send: Send, rest: str) -> None:
        """A request about a session of this process, or of none."""
        name, transport = _names(rest)
        headers = answers.readable(scope)
        session = self._sessions.get(name)
        if transport == _SEND:
            if session is None or session.interrupted or not session.is_of(scope["headers"]):
                await answers.answer(send, 404, headers)
                return
            status, text = await sending.take(session, receive)
            await answers.answer(send, status, headers, text.encode(), answers.TEXT)
            return
        style = receiving.STYLES[transport]
        if session is None:
            try:
                self._sessions.check_room()
                found = await websocket.handshake(scope, subprotocols=())
            except BrokerError as error:
                await _refuse(send, headers, error)
                return
            await self._peers.listen()
            session = self._sessions.get(name) or self._sessions.open(name, scope, found, style.kind)
        if not session.is_of(scope["headers"]):
            await answers.answer(send, 404, headers)
            return
        await receiving.deliver(session, style, headers, receive, send, limit=self._response_bytes)


def _names(rest: str) -> tuple[str, str]:
    """Session and transport of a path below `/ws/`; empty for one that is no session's.

    Any text without a dot names a server and a session (sockjs-protocol, Session URLs). The server's is the balancer's
    business.
    """
    parts = rest.split("/")
    if len(parts) != 3:
        return "", ""
    server, session, transport = parts
    named = all(0 < len(name) <= MAX_NAME and "." not in name and name.isprintable() for name in (server, session))
    return (session, transport) if named else ("", "")


def _method(rest: str) -> str | None:
    """The method of a path below `/ws/`; None where there is nothing."""
    if rest in ("info", _SOCKET):
        return "GET"
    session, transport = _names(rest)
    if not session:
        return None
    if transport in receiving.STYLES:
        return receiving.STYLES[transport].method
    return {_SEND: "POST", _SOCKET: "GET"}.get(transport)


async def _refuse(send: Send, headers: answers.Headers, error: BrokerError) -> None:
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 400)
    more = [(b"retry-after", b"2")] if status == 503 else []
    await answers.answer(send, status, [*headers, *more], f"{error.detail}\n".encode(), answers.TEXT)


def _directory(data_dir: Path) -> Path:
    """Where the web processes of a server find each other; below `/tmp` when the data directory's path is long."""
    directory = data_dir.absolute() / "sockjs"
    if len(os.fsencode(directory)) <= _MAX_DIRECTORY_BYTES:
        return directory
    digest = hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()
    return Path("/tmp") / f"waystation-{digest[:20]}-sockjs"  # noqa: S108 - `Peers` refuses another's directory
