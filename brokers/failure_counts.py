"""Counters of failure groups and replays: adds up the ledgers that triggers write (migration 0006).

Each failure, change of state and outcome leaves a row in a ledger, in its own transaction; here such rows are taken
away and added to counters and minutes, in one transaction for each chunk. Until then readers add them themselves. Any
number of folds may run at once: none takes another's rows. Called by housekeeping.
"""

from __future__ import annotations

from typing import LiteralString

from brokers.database import sync_cursor
from brokers.sql import load

SQL = load("failure_counts")

CHUNK = 5000
"""Rows of a ledger added up in one transaction."""
CHUNKS = 20
"""Transactions for each ledger in one call at most; the rest waits for the next one."""
KEPT_DAYS = 7
"""How long failures by minute are kept."""
_FORGOTTEN_AT_ONCE = 10_000


def fold() -> int:
    """Adds what both ledgers hold, a bounded number of rows, to the counters; says how many rows.

    Transactions of its own, unless the caller has one open.
    """
    return _fold(SQL.fold_failures) + _fold(SQL.fold_replays)


def _fold(statement: LiteralString) -> int:
    total = 0
    for _ in range(CHUNKS):
        with sync_cursor() as cursor:
            row = cursor.execute(statement, (CHUNK,)).fetchone()
        folded = row[0] if row else 0
        total += folded
        if folded < CHUNK:
            break
    return total


def forget_old_minutes() -> int:
    """Removes failures by minute that are older than seven days, a bounded number; says how many rows."""
    with sync_cursor() as cursor:
        return cursor.execute(SQL.forget_minutes, (KEPT_DAYS, _FORGOTTEN_AT_ONCE)).rowcount
