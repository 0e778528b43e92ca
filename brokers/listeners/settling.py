"""The end of a listener's transaction: its offset under the member's claim, and COMMIT in the same round trip."""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from brokers.database import in_transaction, sync_cursor
from brokers.listeners.work import Settled
from brokers.sql import load

SQL = load("listeners")


class Settlement(NamedTuple):
    """The parameters of `brokers_group_settle`."""

    group_id: int
    member: int
    partition_id: int
    claim: int
    offset: int | None
    """To commit; None leaves the committed one, and only asks whether the claim holds."""
    is_past_care: bool


def has_begun(connection: BaseDatabaseWrapper) -> bool:
    """Whether anything has been sent to the database in this transaction."""
    return bool(connection.connection.info.transaction_status != TransactionStatus.IDLE)


def commit(connection: BaseDatabaseWrapper, settlement: Settlement, search_path: str) -> Settled:
    """Settles and commits the transaction that has begun; Django's own commit has nothing left to do then.

    Undoes before what a handler may have left in the session. Raises Django's errors.
    """
    raw: psycopg.Connection[Any] = connection.connection
    cursor = psycopg.Cursor(raw)
    with connection.wrap_database_errors:
        with raw.pipeline():
            psycopg.Cursor(raw).execute(SQL.tidy, (search_path,))
            cursor.execute(SQL.settle, (*settlement, False))
            psycopg.Cursor(raw).execute("commit", prepare=False)
        return _settled(cursor)


def settle(settlement: Settlement) -> Settled:
    """Settles in the transaction that is open and has done nothing yet, else in one of its own.

    One of its own is not waited for until it is on disk: its handlers have left no effect in this database, and if a
    crash of the server loses the offset, their records come again.
    """
    with sync_cursor() as cursor:
        cursor.execute(SQL.settle, (*settlement, not in_transaction()))
        return _settled(cursor)


def _settled(cursor: psycopg.Cursor[tuple[Any, ...]]) -> Settled:
    row = cursor.fetchone()
    assert row is not None
    return Settled(row[0], row[1], 0)
