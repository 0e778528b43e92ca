"""Retention: removes whole oldest batches that are past their topic's time or size.

Time counts from when a batch was stored, by the database's clock, so that records published with old timestamps of
their own are kept as long as any other. A partition's earliest offset moves first and never back; then the batches
below it, which no reader sees any more, are removed in small transactions. Called by housekeeping.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from brokers.database import sync_cursor
from brokers.sql import load

SQL = load("housekeeping")

_LOOKED_AT = 2000
"""Oldest batches looked at in one step."""
_REMOVED = 150
"""Batches removed in one transaction: a larger one would hold up others and the disk."""
_STEPS = 400
"""Transactions of one call at most; the rest waits for the next one."""


def enforce() -> int:
    """Raises earliest offsets and removes what lies below them, a bounded number; says how many batches went."""
    with sync_cursor() as cursor:
        for row in cursor.execute(SQL.expired).fetchall():
            _raise_earliest(cursor, *row)
        partitions = [row[0] for row in cursor.execute(SQL.half_removed).fetchall()]
        return _remove(cursor, partitions, SQL.remove_below_earliest)


def _raise_earliest(
    cursor: psycopg.Cursor[tuple[Any, ...]],
    partition: int,
    earliest: int,
    retention_ms: int | None,
    retention_bytes: int | None,
    held_bytes: int,
    now: int,
) -> None:
    rows = cursor.execute(SQL.oldest, (partition, earliest, _LOOKED_AT)).fetchall()
    new = cut(rows, retention_ms, retention_bytes, held_bytes, now)
    if new is not None:
        cursor.execute(SQL.raise_earliest, {"partition": partition, "offset": new})


def cut(
    oldest: Iterable[tuple[int, int, int]],
    retention_ms: int | None,
    retention_bytes: int | None,
    held_bytes: int,
    now: int,
) -> int | None:
    """The new earliest offset of a partition, or None to leave it.

    `oldest` are its oldest batches in order: end offset, time of storing and bytes. As in Kafka, a batch goes for its
    size only when at least `retention_bytes` remain without it. Times are Unix milliseconds.
    """
    new = None
    for end, stored_at, size in oldest:
        too_old = retention_ms is not None and stored_at < now - retention_ms
        too_much = retention_bytes is not None and held_bytes - size >= retention_bytes
        if not (too_old or too_much):
            break
        new, held_bytes = end, held_bytes - size
    return new


def remove_deleted_topics() -> int:
    """Frees the storage of deleted topics, a bounded number of batches; says how many went."""
    with sync_cursor() as cursor:
        partitions = [row[0] for row in cursor.execute(SQL.deleted).fetchall()]
        return _remove(cursor, partitions, SQL.remove_deleted, SQL.forget_deleted)


def _remove(
    cursor: psycopg.Cursor[tuple[Any, ...]], partitions: Iterable[int], statement: Any, at_the_end: Any = None
) -> int:
    total, steps = 0, _STEPS
    for partition in partitions:
        while steps > 0:
            steps -= 1
            row = cursor.execute(statement, {"partition": partition, "batches": _REMOVED}).fetchone()
            removed = row[0] if row else 0
            total += removed
            if removed < _REMOVED:
                if at_the_end is not None:
                    cursor.execute(at_the_end, (partition,))
                break
    return total
