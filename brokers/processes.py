"""Processes report that they are alive, by a row each that they renew; the console and `readyz` count them.

Packages above this one may have something begin and end with each long-lived process, as executors are: `attend`.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import psycopg

from brokers.database import acquire, sync_cursor
from brokers.sql import load

SQL = load("processes")

RENEW_SECONDS = 3.0
STALE_SECONDS = 10.0
FORGOTTEN_SECONDS: Final = 60.0
MOST_LISTED: Final = 500


class Attendant(Protocol):
    """What begins and ends with a process."""

    def begin(self, kind: str) -> None:
        """A process of this kind begins, after all forks."""

    def end(self, seconds: float) -> int:
        """It ends: what is under way may take so long at most. Answers how much was not done, and has logged that."""


_attendants: list[Attendant] = []


def attend(attendant: Attendant) -> None:
    """Has something begin and end with each process. Called while the applications are loaded."""
    if attendant not in _attendants:
        _attendants.append(attendant)


def begin(kind: str) -> None:
    """A web process or a listener begins."""
    for attendant in _attendants:
        attendant.begin(kind)


def end(seconds: float) -> None:
    """It ends, and has so many seconds left. Waits: not for an event loop's thread."""
    until = time.monotonic() + seconds
    for attendant in _attendants:
        attendant.end(max(until - time.monotonic(), 0.0))


class Heartbeat:
    """One process's row."""

    def __init__(self, kind: str) -> None:
        self._row = (str(uuid.uuid4()), kind, socket.gethostname()[:200], os.getpid())

    def beat(self) -> None:
        """Renews the row, on Django's connection."""
        with sync_cursor() as cursor:
            cursor.execute(SQL.beat, self._row)

    def beat_by(self, cursor: psycopg.Cursor[Any]) -> None:
        """`beat` on a connection of the caller's."""
        cursor.execute(SQL.beat, self._row)

    def end_by(self, cursor: psycopg.Cursor[Any]) -> None:
        """`end` on a connection of the caller's."""
        cursor.execute(SQL.end, self._row[:1])

    async def abeat(self) -> None:
        """`beat` on the pool."""
        async with acquire() as conn:
            await conn.execute(SQL.beat, self._row)

    def end(self) -> None:
        """Removes the row: the process stops in good order."""
        with sync_cursor() as cursor:
            cursor.execute(SQL.end, self._row[:1])

    async def aend(self) -> None:
        """`end` on the pool."""
        async with acquire() as conn:
            await conn.execute(SQL.end, self._row[:1])


def live(kind: str) -> int:
    """Processes of a kind that reported themselves within ten seconds."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.live, (kind, STALE_SECONDS)).fetchone()
    return int(row[0]) if row else 0


@dataclass(frozen=True, slots=True)
class Listed:
    """A process that was heard of within about a minute."""

    kind: str
    """`web`, `listener`, `beat` or `task worker`."""
    host: str
    pid: int
    started_at: datetime
    silent_seconds: float
    """Since it was last heard of, by the database's clock."""


def listed() -> list[Listed]:
    """Processes of all servers, `MOST_LISTED` at most, also those that have fallen silent and are not forgotten yet."""
    with sync_cursor() as cursor:
        return [Listed(*row) for row in cursor.execute(SQL.listed, (MOST_LISTED,)).fetchall()]


def purge() -> int:
    """Forgets processes that have been silent for a minute; says how many."""
    with sync_cursor() as cursor:
        cursor.execute(SQL.purge, (FORGOTTEN_SECONDS,))
        return cursor.rowcount
