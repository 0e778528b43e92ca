"""Retention: removes whole oldest batches that are past their topic's time or size.

Time counts from when a batch was stored, by the database's clock, so that records published with old timestamps of
their own are kept as long as any other. A partition's earliest offset moves first and never back; then the batches
below it, which no reader sees any more, are removed in small transactions. What the roll-ups have not counted yet
stays. Called by housekeeping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.db import transaction

from brokers.database import sync_cursor
from brokers.sql import load

SQL = load("housekeeping")

LOOKED_AT = 2000
"""Oldest batches of a partition looked at in one step."""
REMOVED_AT_ONCE = 150
"""Batches removed in one transaction: a larger one would hold up others and the disk."""
STEPS = 400
"""Transactions of one call at most; the rest waits for the next one."""


def _always() -> bool:
    return True


def enforce(keep_going: Callable[[], bool] = _always) -> int:
    """Raises earliest offsets and removes what lies below them, a bounded number; says how many batches went.

    Transactions of its own. Ends early once `keep_going` says no.
    """
    raise_earliest(keep_going)
    return remove_below_earliest(keep_going)


def raise_earliest(keep_going: Callable[[], bool] = _always) -> int:
    """The first half: moves the earliest offsets of partitions up; says of how many."""
    with sync_cursor() as cursor:
        expired = cursor.execute(SQL.expired).fetchall()
    raised = 0
    for row in expired:
        if not keep_going():
            break
        raised += _raise_one(*row)
    return raised


def _raise_one(partition: int, earliest: int, retention_ms: int | None, retention_bytes: int | None, now: int) -> bool:
    with transaction.atomic(), sync_cursor() as cursor:
        held = cursor.execute(SQL.lock_count, (partition,)).fetchone()
        if held is None:  # the topic was deleted
            return False
        counted, held_bytes = held
        rows = cursor.execute(SQL.oldest, (partition, earliest, counted, LOOKED_AT)).fetchall()
        new = cut(rows, retention_ms, retention_bytes, held_bytes, now)
        if new is None:
            return False
        parameters = {"partition": partition, "earliest": earliest, "offset": new}
        return cursor.execute(SQL.raise_earliest, parameters).rowcount == 1


def remove_below_earliest(keep_going: Callable[[], bool] = _always) -> int:
    """The second half: removes batches that no reader sees any more; says how many."""
    with sync_cursor() as cursor:
        partitions = [row[0] for row in cursor.execute(SQL.half_removed).fetchall()]
    return _remove(partitions, SQL.remove_below_earliest, keep_going)


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


def remove_deleted_topics(keep_going: Callable[[], bool] = _always) -> int:
    """Frees the storage of deleted topics, a bounded number of batches; says how many went."""
    with sync_cursor() as cursor:
        partitions = [row[0] for row in cursor.execute(SQL.deleted).fetchall()]
    return _remove(partitions, SQL.remove_deleted, keep_going, SQL.forget_deleted)


def _remove(partitions: Iterable[int], statement: Any, keep_going: Callable[[], bool], at_the_end: Any = None) -> int:
    total, steps = 0, STEPS
    with sync_cursor() as cursor:
        for partition in partitions:
            while steps > 0 and keep_going():
                steps -= 1
                row = cursor.execute(statement, {"partition": partition, "batches": REMOVED_AT_ONCE}).fetchone()
                removed = row[0] if row else 0
                total += removed
                if removed < REMOVED_AT_ONCE:
                    if at_the_end is not None:
                        cursor.execute(at_the_end, (partition,))
                    break
    return total
