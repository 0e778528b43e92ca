"""Minute roll-ups: how many records and bytes each topic got in each minute, counted from the log itself.

Appends pay nothing for it. Housekeeping calls `count_new` every few seconds; rates, charts and sizes come from here.
"""

from __future__ import annotations

from brokers.database import sync_cursor
from brokers.sql import load

SQL = load("housekeeping")

KEPT_DAYS = 7
_BATCHES = 5000
"""Batches counted in one statement."""


def count_new() -> int:
    """Counts the batches that came since the last call, a bounded number for each partition; says how many."""
    total = 0
    with sync_cursor() as cursor:
        for partition, topic, offset in cursor.execute(SQL.behind).fetchall():
            parameters = {"partition": partition, "topic": topic, "offset": offset, "batches": _BATCHES}
            row = cursor.execute(SQL.count, parameters).fetchone()
            total += row[0] if row else 0
    return total


def forget_old() -> int:
    """Removes minutes older than seven days, a bounded number; says how many."""
    with sync_cursor() as cursor:
        cursor.execute(SQL.forget_minutes, (KEPT_DAYS,))
        return cursor.rowcount
