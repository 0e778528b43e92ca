"""What every stream is to the application that serves it: who may have it, how it opens, and what it says when idle."""

from __future__ import annotations

from typing import Protocol

from brokers.access import Principal
from realtime.connections import Connection


class StreamOver(Exception):
    """There is nothing to come: the client is told to connect no more (204; WHATWG HTML, 9.2.3)."""


class Stream(Protocol):
    """One client's stream of events. The methods are called in this order."""

    description: str
    """For the list of connections."""

    def check(self, principal: Principal) -> None:
        """Raises `AccessDenied` or `NotFound` unless the caller may have it; asked again when grants change."""

    async def find(self) -> None:
        """Looks up what it shows; raises `NotFound`, `InvalidLastEventId`, `StreamOver` and `Unavailable`."""

    async def open(self, connection: Connection) -> None:
        """Begins to write events. Nothing has been sent yet: what it raises becomes the answer."""

    def keep_alive(self) -> bytes:
        """What is written when nothing else was for a while."""

    def close(self) -> None:
        """The client has gone, or the stream has ended; may come before `open`."""
