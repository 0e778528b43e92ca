"""What happened to one dead letter: attempts, revisions, replays and what people changed."""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

from msgspec.json import decode

from brokers.database import sync_cursor
from brokers.selectors.dead_letter_bodies import Body, body_of
from brokers.settings import MAX_FETCH_BYTES
from brokers.sql import load

SQL = load("dead_letter_history")

MAX_ATTEMPTS = 1000
MAX_REVISIONS = 1000
MAX_EVENTS = 500


class Attempt(NamedTuple):
    """One call of the handler that failed; without `ended_at` the worker was lost in it."""

    number: int
    revision: int
    replay_id: int | None
    started_at: datetime
    ended_at: datetime | None
    exception_class: str
    error: str
    delay_ms: int | None
    worker: str
    stacktrace: str
    frames: list[dict[str, Any]]


class Revision(NamedTuple):
    """What was given up (`original`), or an edit of it."""

    number: int
    origin: str
    created_by: str
    created_at: datetime
    size: int
    body: Body | None
    """None where the newer ones have too many bytes already."""


class Event(NamedTuple):
    """Something that happened: `given_up`, `edit`, `replay`, or the operation of an audit entry."""

    at: datetime
    kind: str
    who: str
    details: dict[str, Any]


def attempts(id: int, limit: int = MAX_ATTEMPTS) -> list[Attempt]:  # noqa: A002 - the word of every surface
    """The newest `limit` attempts at a dead letter over all its replays, oldest first."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.attempts, (id, limit)).fetchall()
    return [Attempt(*row)._replace(frames=decode(row[-1])) for row in reversed(rows)]


def revisions(id: int, limit: int = MAX_REVISIONS) -> list[Revision]:  # noqa: A002 - as above
    """What was given up and its edits, newest first; bodies of the first ones, up to about eight megabytes."""
    wanted = {"id": id, "bytes": MAX_FETCH_BYTES, "limit": limit}
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.revisions, wanted, binary=True).fetchall()
    return [
        Revision(number, origin, created_by, created_at, size, body_of(body) if fits else None)
        for number, origin, created_by, created_at, size, fits, *body in rows
    ]


def history(id: int, limit: int = MAX_EVENTS) -> list[Event]:  # noqa: A002 - as above
    """What happened to a dead letter, newest first, without its attempts."""
    with sync_cursor() as cursor:
        edits = cursor.execute(SQL.edits, (id, limit)).fetchall()
        replays = cursor.execute(SQL.replays, (id, limit)).fetchall()
        changes = cursor.execute(SQL.changes, (str(id), limit)).fetchall()
    found = [Event(at, kind, who, decode(details)) for at, kind, who, details in (*edits, *replays, *changes)]
    return sorted(found, key=attrgetter("at"), reverse=True)[:limit]
