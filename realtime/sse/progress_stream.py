"""The stream of a task's progress: `GET /api/progress/{id}/stream`. Made by `sse.app`.

Each event is the whole state of the task, and its id the state's number; states that came while nobody looked are left
out. The last event is `completed` or `failed`, and who has seen it is told to connect no more.
"""

from __future__ import annotations

import re
from datetime import UTC
from typing import Final

import msgspec

from brokers.access import Principal
from brokers.errors import InvalidLastEventId, ProgressNotFound, shown
from realtime import progress
from realtime.connections import Connection
from realtime.progress import Snapshot
from realtime.sse import event
from realtime.sse.following import Following, Reading
from realtime.sse.stream import StreamOver

_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_NORMAL: Final = 1000
_NAMES: Final[dict[str, event.Name]] = {"running": "progress", "completed": "completed", "failed": "failed"}


class ProgressStreamQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Where to begin."""

    last_event_id: str | None = None
    """Where a client that cannot set the header `Last-Event-ID` goes on; the header wins over it."""
    ticket: str | None = None
    """From `POST /api/v1/tickets`, in place of the Authorization header."""


class ProgressStream:
    """One client's."""

    def __init__(self, following: Following, task: str, last_event_id: str | None) -> None:
        self.description = f"progress {task}"
        self.hint = progress.hint(task)
        self.number = 0
        self._reading = Reading(self._read)
        self.moved = self._reading.moved
        self._following = following
        self._task = task
        self._last_event_id = last_event_id
        self._principal: Principal | None = None
        self._found: Snapshot | None = None
        self._connection: Connection | None = None

    def check(self, principal: Principal) -> None:
        """Raises `ProgressNotFound` for a task of somebody else."""
        self._principal = principal
        if self._found is not None and not principal.superuser and principal.user_name() != self._found.user:
            raise ProgressNotFound(f"there is no task {shown(self._task)}")

    async def find(self) -> None:
        """Looks the task up; raises `ProgressNotFound`, `InvalidLastEventId`, and `StreamOver` at its end."""
        assert self._principal is not None
        self._found = found = await progress.find(self._task)
        self.check(self._principal)
        if self._last_event_id is None:
            return
        if not _NUMBER.fullmatch(self._last_event_id) or int(self._last_event_id) > found.number:
            raise InvalidLastEventId(f"{shown(self._last_event_id)} was not given out by this stream")
        self.number = int(self._last_event_id)
        if found.finished and self.number == found.number:
            raise StreamOver

    async def open(self, connection: Connection) -> None:
        """Shows how it stands."""
        assert self._found is not None
        self._connection = connection
        self._following.add(self)
        self._show(self._found)
        self.moved()

    def keep_alive(self) -> bytes:
        """A comment."""
        return event.KEEP_ALIVE

    def close(self) -> None:
        """Follows no longer."""
        self._following.remove(self)
        self._reading.stop()

    async def _read(self) -> None:
        connection = self._connection
        if connection is None or not await connection.space():
            return
        try:
            self._show(await progress.find(self._task))
        except ProgressNotFound as error:
            connection.fail(error)

    def _show(self, found: Snapshot) -> None:
        connection = self._connection
        if connection is None or connection.ended or found.number <= self.number:
            return
        self.number = found.number
        shown_event = event.event(_NAMES[found.state], event.to_json(self._data(found)), str(found.number))
        if found.finished:
            connection.end(_NORMAL, found.state, [event.retry(event.RETRY_MS), shown_event])
        else:
            connection.write(shown_event, 1)

    def _data(self, found: Snapshot) -> dict[str, object]:
        return {
            "id": self._task,
            "title": found.title,
            "state": found.state,
            "current": found.current,
            "total": found.total,
            "message": found.message,
            "result": None if found.result is None else msgspec.Raw(found.result.encode()),
            "error": found.error,
            "started_at": found.started_at.astimezone(UTC),
            "updated_at": found.updated_at.astimezone(UTC),
        }
