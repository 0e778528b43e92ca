"""Forgets replays: plans that nobody applied in time, and old ones with all their items. Called by housekeeping."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction

from brokers.database import sync_cursor
from brokers.replays.plans import SQL

KEPT_DAYS = 90
"""How long a replay and its outcomes are kept after its end."""
_REPLAYS_AT_ONCE = 100
_ITEMS_AT_ONCE = 5000
_STEPS = 100
"""Transactions of one call at most; the rest waits for the next one."""


def purge(keep_going: Callable[[], bool]) -> int:
    """Removes items of such replays and, once they have none, the replays; says how many rows.

    A bounded number, in transactions of its own. Ends early once `keep_going` says no.
    """
    with sync_cursor() as cursor:
        over = [row[0] for row in cursor.execute(SQL.over, (_REPLAYS_AT_ONCE, KEPT_DAYS, _REPLAYS_AT_ONCE)).fetchall()]
    removed = steps = 0
    while over and steps < _STEPS and keep_going():
        items = _remove(over[0])
        removed += items
        steps += 1
        if items < _ITEMS_AT_ONCE:
            over.pop(0)
    return removed


def _remove(replay_id: int) -> int:
    """Some of a replay's items, and itself with the last of them: how many items."""
    with transaction.atomic(), sync_cursor() as cursor:
        row = cursor.execute(SQL.remove_items, (replay_id, _ITEMS_AT_ONCE)).fetchone()
        assert row is not None
        if row[0] < _ITEMS_AT_ONCE:
            cursor.execute(SQL.remove, (replay_id,))
    return int(row[0])
