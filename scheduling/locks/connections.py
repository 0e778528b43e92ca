"""Connections on which locks are taken: a few idle ones of this process, autocommit and never Django's.

So a lock is outside of the caller's transaction by construction, `CURRENT_TIMESTAMP` is a statement's own time, and a
cycle of lock and unlock costs two commits and no connecting. Called by `store`.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from django.db import connection as django_connection
from psycopg.pq import TransactionStatus

from brokers.database import conninfo

Connection = psycopg.Connection[tuple[Any, ...]]

IDLE_KEPT: Final = 4
"""More are made when more threads lock at once, and closed after use."""
CONNECT_SECONDS: Final = 5
OPTIONS: Final = "-c lock_timeout=2s -c statement_timeout=10s"
"""A row can be locked by a stopped process's transaction: then the lock counts as held."""


class Stack:
    """Idle connections, the last used on top. Each step is one operation of a list, which threads cannot cut in two."""

    def __init__(self) -> None:
        self.idle: list[Connection] = []

    def take(self) -> Connection | None:
        """An idle connection, if there is one."""
        try:
            return self.idle.pop()
        except IndexError:
            return None

    def give(self, connection: Connection) -> None:
        """Keeps it, and closes another where enough are kept."""
        self.idle.append(connection)
        if len(self.idle) > IDLE_KEPT and (superfluous := self.take()) is not None:
            superfluous.close()

    def close(self) -> None:
        """Closes all that are idle now."""
        while (found := self.take()) is not None:
            found.close()

    def disown(self) -> None:
        """Frees what a fork has copied, without a word to the server: the sessions are the parent's."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for connection in self.idle:
            if not connection.closed:
                os.dup2(nowhere, connection.fileno())
                connection.close()
        os.close(nowhere)


_stack = Stack()


def _begin_anew() -> None:
    global _stack
    _stack.disown()
    _stack = Stack()


os.register_at_fork(after_in_child=_begin_anew)


@contextmanager
def lent() -> Iterator[Connection]:
    """A connection whose statements each commit by themselves; raises psycopg's errors."""
    mine = _stack
    connection = mine.take() or connect()
    try:
        yield connection
    finally:
        if connection.closed:  # what breaks one connection, such as a restart, has broken all
            mine.close()
        elif connection.info.transaction_status != TransactionStatus.IDLE:  # a signal has interrupted a statement
            connection.close()
        else:
            mine.give(connection)


def connect() -> Connection:
    """A new connection to Django's default database."""
    given = psycopg.conninfo.conninfo_to_dict(conninfo())
    options = f"{given.get('options') or ''} {OPTIONS}".strip()
    return psycopg.connect(
        psycopg.conninfo.make_conninfo(conninfo(), options=options, application_name="waystation-locks"),
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        prepare_threshold=django_connection.settings_dict["OPTIONS"].get("prepare_threshold"),
    )


@atexit.register
def close() -> None:
    """Closes the idle connections; later locks make new ones."""
    _stack.close()
