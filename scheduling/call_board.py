"""Calls of durable background functions as the console lists them: page by page, without arguments and results.

Each list is a walk through an index of its own, so that a page costs the same among millions of calls. Called by the
console; for one call with all that is kept of it see `durable.calls`. Statements are in `sql/call_board.sql`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, LiteralString

from brokers.database import sync_cursor
from brokers.sql import parse

SQL: Final = parse(Path(__file__).parent / "sql" / "call_board.sql")

MAX_ID: Final = 2**63 - 1
MOST_OPEN: Final = 10_000
"""Open calls that are counted."""
_LISTS: Final[Mapping[str, LiteralString]] = {"": SQL.all, "open": SQL.open, "dead": SQL.dead}


@dataclass(frozen=True, slots=True)
class CallLine:
    """One call; its error is cut."""

    id: int
    function: str
    state: str
    """`ready`, `running`, `succeeded` or `dead`."""
    called_at: datetime
    next_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    attempts: int
    losses: int
    error: str
    process: str
    called_by: str
    dead_letter_id: int | None

    @property
    def took_ms(self) -> int | None:
        """From the first attempt's beginning to the end, in milliseconds."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max((self.ended_at - self.started_at) // timedelta(milliseconds=1), 0)


def calls(only: str, before: int, limit: int) -> tuple[list[CallLine], int | None]:
    """Calls below an id, latest first: all, or those that are `open` or `dead`; and the id to go on below, if any.

    Raises `Unavailable`.
    """
    with sync_cursor() as cursor:
        rows = cursor.execute(_LISTS[only], {"before": before, "limit": limit + 1}).fetchall()
    found = [CallLine(*row) for row in rows[:limit]]
    return found, found[-1].id if len(rows) > limit else None


def open_calls() -> tuple[int, int]:
    """How many calls have not ended, up to `MOST_OPEN`, and how many of those run. Raises `Unavailable`."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.open_count, (MOST_OPEN,)).fetchone()
    assert row is not None
    return row[0], row[1]
