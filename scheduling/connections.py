"""Raw connections of the scheduling plane: autocommit, one per user of them, never Django's.

The beat and the worker's keeper each hold one for their life. A connection that was lost is made anew by the next
call; nothing is repeated, since whoever calls knows whether it may be. Called by the stores of tasks and runs.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import psycopg

from brokers.database import conninfo, store_errors

Cursor = psycopg.Cursor[tuple[Any, ...]]


class OwnConnection:
    """One autocommit connection, used by one thread at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    @contextlib.contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """A cursor whose statements each commit by themselves. Raises `Unavailable` when the database is away."""
        with self._lock, store_errors():
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(
                    conninfo(), autocommit=True, prepare_threshold=3, application_name=self._name, connect_timeout=5
                )
            try:
                with self._connection.cursor() as cursor:
                    yield cursor
            except (psycopg.OperationalError, psycopg.InterfaceError):
                self._connection.close()
                raise

    def close(self) -> None:
        """Gives it back; a later use makes a new one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
