"""The SockJS sessions over HTTP of this process: opened, found by their name, and gone when nobody fetches from them.

Part of `app.SockJs`. Their connections are the registry's like all others; their end is noticed here, where no request
may be there to notice it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from starlette.types import Scope

from brokers.errors import Unavailable
from realtime import origins
from realtime.connections import Connection
from realtime.hub import LiveHub
from realtime.registry import MAX_CONNECTIONS
from realtime.sockjs.session import HttpSession
from realtime.websocket import Handshake, Session, open_connection

DISCONNECT_SECONDS: Final = 5.0
"""How long a session lives without a receiver (sockjs-protocol, Protocol)."""


class Sessions:
    """Sessions by name."""

    def __init__(self, live: LiveHub, make: Callable[[Connection], Session]) -> None:
        self._live = live
        self._make = make
        self._sessions: dict[str, HttpSession] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def get(self, name: str) -> HttpSession | None:
        """The session of that name, which may have ended and tells so until it expires."""
        return self._sessions.get(name)

    def check_room(self) -> None:
        """Raises `Unavailable` when no further session can be opened in this process."""
        self._live.registry.check_room()
        if len(self._sessions) >= MAX_CONNECTIONS:
            raise Unavailable("this process holds as many SockJS sessions as it can; try again in some seconds")

    def open(self, name: str, scope: Scope, found: Handshake, kind: str) -> HttpSession:
        """A new session for whom the handshake let in."""
        session = HttpSession(name, kind, origins.header(scope["headers"], b"origin"), found.credential)
        self._sessions[name] = session
        session.on_end = lambda: self._end_soon(session)
        connection = open_connection(scope, self._live, session, found)
        if connection is not None:
            session.connection = connection
            session.protocol = self._make(connection)
        self._live.registry.wheel.visit_in(DISCONNECT_SECONDS, lambda now: self._look_after(session))
        return session

    def _look_after(self, session: HttpSession) -> float | None:
        """The wheel's visits: a session expires that nobody has received from for `DISCONNECT_SECONDS`."""
        if session.receiving:
            return DISCONNECT_SECONDS
        left = session.idle_since + DISCONNECT_SECONDS - time.monotonic()
        if left > 0:
            return left
        self._sessions.pop(session.name, None)
        if not session.ended and session.connection is not None:
            session.connection.last_error = "connection_lost"
            session.connection.end(1001, "the client does not fetch any more")
        return None

    def _end_soon(self, session: HttpSession) -> None:
        task = asyncio.get_running_loop().create_task(self._end(session), name="waystation-sockjs-end")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, session: HttpSession) -> None:
        if session.connection is not None:
            self._live.registry.close(session.connection)
        if session.protocol is not None:
            await session.protocol.closed()

    async def stop(self) -> None:
        """Returns when all that ended has let go of what it held."""
        for session in self._sessions.values():
            if session.connection is not None:
                session.connection.end(1001, "the server is stopping")
        while self._ending:
            await asyncio.wait(self._ending)
