"""Processes report that they are alive, by a row each that they renew; the console and `readyz` count them.

Packages above this one may have something begin and end with each long-lived process, as executors are: `attend`.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from typing import Protocol

from brokers.database import acquire, sync_cursor
from brokers.sql import load

SQL = load("processes")

RENEW_SECONDS = 3.0
STALE_SECONDS = 10.0


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


def purge() -> int:
    """Forgets processes that have been silent for a minute; says how many."""
    with sync_cursor() as cursor:
        cursor.execute(SQL.purge, (60.0,))
        return cursor.rowcount
