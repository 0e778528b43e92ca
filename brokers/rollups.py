"""Minute roll-ups: how many records and bytes each topic got in each minute, counted from the log itself.

Appends pay nothing for it. Housekeeping calls `count_new` every few seconds; rates, charts and sizes come from here.
Retention and compaction leave alone what is not counted yet, so that each record is counted exactly once.
"""

from __future__ import annotations

from django.db import IntegrityError

from brokers.database import sync_cursor
from brokers.sql import load

SQL = load("housekeeping")

KEPT_DAYS = 7
_PARTITIONS = 100
"""Partitions counted in one statement."""
_BATCHES = 1000
"""Batches of one partition counted in one statement."""
_BATCHES_OF_A_CALL = 200_000
"""Batches counted in one call, about; the rest waits for the next one."""


def count_new() -> int:
    """Counts the batches that came since the last call, a bounded number; says how many.

    Statements of their own, each one transaction. Not for two processes at once.
    """
    total = 0
    with sync_cursor() as cursor:
        behind = cursor.execute(SQL.behind).fetchall()
    while behind and total < _BATCHES_OF_A_CALL:
        some, behind = behind[:_PARTITIONS], behind[_PARTITIONS:]
        for partition, past, batches in _count(some):
            total += batches
            if batches == _BATCHES:
                behind.append((partition, past))
    return total


def _count(some: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    partitions, offsets = map(list, zip(*some, strict=True))
    parameters = {"partitions": partitions, "offsets": offsets, "batches": _BATCHES}
    try:
        with sync_cursor() as cursor:
            return cursor.execute(SQL.count, parameters).fetchall()
    except IntegrityError:  # a topic was deleted in between; the others are counted by the next call
        return []


def forget_old() -> int:
    """Removes minutes older than seven days, a bounded number; says how many."""
    with sync_cursor() as cursor:
        cursor.execute(SQL.forget_minutes, (KEPT_DAYS,))
        return cursor.rowcount
