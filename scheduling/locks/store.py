"""Taking, extending and giving back a lock: ShedLock's statements over connections of their own.

The statements are those of ShedLock's JDBC template provider with database time on PostgreSQL (its
`PostgresSqlServerTimeStatementsSource`), so that services that use it and this one can share locks. Always the INSERT
form: it costs no more, and a row that somebody deleted comes back. Whatever happens in the caller's transaction has no
effect here. Called by `lease` and by the beat.
"""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
from psycopg import errors

from brokers.database import store_errors
from brokers.sql import parse
from scheduling.locks import connections

SQL: Final = parse(Path(__file__).parent.parent / "sql" / "locks.sql")

TRIES: Final = 10
"""How often giving back is tried against transactions that get in its way, as ShedLock's."""
_CONTENDED: Final = (errors.LockNotAvailable, errors.SerializationFailure, errors.DeadlockDetected)


@dataclass(frozen=True, slots=True)
class Held:
    """A lock's row as it was written."""

    locked_at: datetime
    until: datetime


def holder() -> str:
    """A new `locked_by`: this host and process, and a part of its own for each acquisition.

    With the host name alone, as ShedLock's, a late unlock would free what somebody else on this host holds by now.
    """
    return f"{socket.gethostname()[:200]}:{os.getpid()}:{secrets.token_hex(6)}"


def acquire(name: str, at_most_ms: int, locked_by: str) -> Held | None:
    """Takes the lock if it is free; None when somebody has it. Raises `Unavailable`.

    A lock is free from the very instant its `lock_until` names. After a lost connection it is tried once more; an
    acquisition that was made and whose answer was lost is found by `locked_by`.
    """
    parameters = {"name": name, "at_most": seconds(at_most_ms), "locked_by": locked_by}
    with store_errors():
        try:
            row, was_repeated = _run(SQL.acquire, parameters)
            if row is None and was_repeated:
                row, _ = _run(SQL.held, {"name": name, "locked_by": locked_by})
        except _CONTENDED:
            return None
    return _held(row)


def extend(name: str, at_most_ms: int, locked_by: str) -> Held | None:
    """Has the lock held for so long from now; None when it has lapsed. Raises `Unavailable`."""
    parameters = {"name": name, "at_most": seconds(at_most_ms), "locked_by": locked_by}
    with store_errors():
        return _held(_run(SQL.extend, parameters)[0])


def unlock(name: str, at_least_ms: int, locked_by: str) -> Held | None:
    """Gives the lock back, at once or when `at_least_ms` since its acquisition are over; None when another has it.

    Raises `Unavailable`; then it lapses by itself.
    """
    parameters = {"name": name, "at_least": seconds(at_least_ms), "locked_by": locked_by}
    with store_errors():
        for _ in range(TRIES - 1):
            try:
                return _held(_run(SQL.unlock, parameters)[0])
            except errors.LockNotAvailable:
                raise  # each try has waited for seconds
            except _CONTENDED:
                continue
        return _held(_run(SQL.unlock, parameters)[0])


def seconds(milliseconds: int) -> Decimal:
    """As ShedLock binds intervals: 1500 ms are 1.500."""
    return Decimal(milliseconds).scaleb(-3)


def _run(statement: LiteralString, parameters: dict[str, Any]) -> tuple[tuple[Any, ...] | None, bool]:
    """The statement's row, and whether it was sent twice since the connection was lost under the first."""
    with connections.lent() as connection:
        try:
            return connection.execute(statement, parameters).fetchone(), False
        except (psycopg.OperationalError, psycopg.InterfaceError):
            if not connection.closed:
                raise
    with connections.lent() as connection:
        return connection.execute(statement, parameters).fetchone(), True


def _held(row: tuple[Any, ...] | None) -> Held | None:
    return None if row is None else Held(row[0].replace(tzinfo=UTC), row[1].replace(tzinfo=UTC))
