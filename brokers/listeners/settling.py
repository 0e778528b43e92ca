"""The end of a listener's transaction: what settles its work, and COMMIT in the same round trip."""

from __future__ import annotations

from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from brokers.database import in_transaction, sync_cursor
from brokers.listeners.work import Settlement
from brokers.sql import load

SQL = load("listeners")


def has_begun(connection: BaseDatabaseWrapper) -> bool:
    """Whether anything has been sent to the database in this transaction."""
    return bool(connection.connection.info.transaction_status != TransactionStatus.IDLE)


def commit(connection: BaseDatabaseWrapper, settlement: Settlement, search_path: str) -> tuple[Any, ...]:
    """Settles and commits the transaction that has begun; Django's own commit has nothing left to do then.

    Undoes before what a handler may have left in the session. Answers the settlement's row. Raises Django's errors.
    """
    raw: psycopg.Connection[Any] = connection.connection
    cursor = psycopg.Cursor(raw)
    with connection.wrap_database_errors:
        with raw.pipeline():
            psycopg.Cursor(raw).execute(SQL.tidy, (search_path,))
            cursor.execute(settlement.statement, (*settlement.parameters, False))
            psycopg.Cursor(raw).execute("commit", prepare=False)
        return _row(cursor)


def settle(settlement: Settlement) -> tuple[Any, ...]:
    """Settles in the transaction that is open and has done nothing yet, else in one of its own.

    One of its own is not waited for until it is on disk: its handlers have left no effect in this database, and if a
    crash of the server loses it, their records come again.
    """
    with sync_cursor() as cursor:
        cursor.execute(settlement.statement, (*settlement.parameters, not in_transaction()))
        return _row(cursor)


def _row(cursor: psycopg.Cursor[tuple[Any, ...]]) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None
    return row
