"""The stream of a user's notifications: `GET /api/notifications/stream`. Made by `sse.app`.

Event ids are `<inbox>-<number>`, so that another user's is told apart. A stream that names none begins with what comes
from now on, and the id of `connected` makes even that resumable.
"""

from __future__ import annotations

import re
from datetime import UTC
from typing import Final, Literal

import msgspec

from brokers.access import Principal
from brokers.errors import AccessDenied, InvalidLastEventId, shown
from realtime import notifications
from realtime.connections import Connection
from realtime.notifications import Bounds, Stored
from realtime.sse import event
from realtime.sse.following import Following, Reading

_PAGE: Final = 100
_ID: Final = re.compile(r"([0-9]{1,10})-([0-9]{1,18})", re.ASCII)


class NotificationStreamQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Where to begin."""

    start: Literal["latest", "earliest"] = msgspec.field(name="from", default="latest")
    """With what comes from now on, or with the oldest notification kept."""
    last_event_id: str | None = None
    """Where a client that cannot set the header `Last-Event-ID` goes on; the header wins over it."""
    ticket: str | None = None
    """From `POST /api/v1/tickets`, in place of the Authorization header."""


class NotificationStream:
    """One client's."""

    def __init__(self, following: Following, query: NotificationStreamQuery, last_event_id: str | None) -> None:
        self.description = "notifications"
        self.hint = ""
        self.number = 0
        self._reading = Reading(self._read)
        self.moved = self._reading.moved
        self._following = following
        self._query = query
        self._last_event_id = last_event_id
        self._user = ""
        self._inbox = self._first = 0
        self._connection: Connection | None = None

    def check(self, principal: Principal) -> None:
        """Everybody may have their own."""
        if self._user and principal.user_name() != self._user:
            raise AccessDenied("the token belongs to another user now")
        self._user = principal.user_name()

    async def find(self) -> None:
        """Looks up the user's inbox; raises `InvalidLastEventId`."""
        bounds = await notifications.open_inbox(self._user)
        self._inbox = bounds.inbox
        self._first = bounds.first
        self.hint = notifications.hint(bounds.inbox)
        self.number = self._begins_after(bounds)

    def _begins_after(self, bounds: Bounds) -> int:
        if self._last_event_id is None:
            return bounds.last if self._query.start == "latest" else bounds.first - 1
        match = _ID.fullmatch(self._last_event_id)
        if match is None or int(match[1]) != bounds.inbox or int(match[2]) > bounds.last:
            raise InvalidLastEventId(f"{shown(self._last_event_id)} was not given out by this stream")
        return int(match[2])

    async def open(self, connection: Connection) -> None:
        """Says `connected`, and reads what there is."""
        self._connection = connection
        connection.write(event.event("connected", event.to_json({"user": self._user}), self._id()))
        if self._first > self.number + 1:
            self.number = self._first - 1
            connection.write(_gap(self._first, self._id()))
        self._following.add(self)
        self.moved()

    def keep_alive(self) -> bytes:
        """A comment."""
        return event.KEEP_ALIVE

    def close(self) -> None:
        """Follows no longer."""
        self._following.remove(self)
        self._reading.stop()

    def _id(self) -> str:
        return f"{self._inbox}-{self.number}"

    async def _read(self) -> None:
        connection = self._connection
        more = True
        while more and connection is not None and await connection.space():
            found = await notifications.after(self._inbox, self.number, _PAGE)
            if connection.ended:
                return
            if found:
                connection.write(b"".join(map(self._event, found)), len(found))
            more = len(found) == _PAGE

    def _event(self, stored: Stored) -> bytes:
        gap = b"" if stored.number == self.number + 1 else _gap(stored.number)
        self.number = stored.number
        data = {
            "number": stored.number,
            "kind": stored.kind,
            "payload": msgspec.Raw(stored.payload.encode()),
            "created_at": stored.created_at.astimezone(UTC),
        }
        return gap + event.event("notification", event.to_json(data), self._id())


def _gap(first: int, event_id: str | None = None) -> bytes:
    return event.event("gap", event.to_json({"first_number": first}), event_id)
