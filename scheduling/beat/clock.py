"""The database's time between two questions to it: the process's monotonic clock plus an offset.

So a system clock that is wrong, or jumps, moves no due time. It is never ahead of the database's: nothing is fired
before its time, even when this process was stopped, or waited for its turn, in the middle of the question.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from scheduling.connections import OwnConnection
from scheduling.tasks import store


class DatabaseClock:
    """What time it is for the database, or was about half a round trip ago."""

    def __init__(self) -> None:
        self._at: datetime | None = None
        self._read_at = 0.0

    def read(self, connection: OwnConnection) -> None:
        """Asks the database. Raises `Unavailable`."""
        at = store.database_now(connection)
        self._at, self._read_at = at, time.monotonic()

    def now(self) -> datetime:
        """The database's time, not later; only after `read`."""
        assert self._at is not None
        return self._at + timedelta(seconds=time.monotonic() - self._read_at)
