"""The savepoint of the record that is being handled: opened with its first query, in one message with it.

Most of what a savepoint costs is its round trip: `atomic()` for each record halves the speed of a handler that writes
a row. So SAVEPOINT travels in the text of the handler's first query, and a record that makes no query has none. Each
has a name of its own: a first query with an error of syntax fails its whole message before SAVEPOINT runs, and ROLLBACK
TO must then find nothing, rather than the savepoint of the record before it. Cursors that bind on the server cannot
take two statements in one text: there it travels in a pipeline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from brokers.database import StatementHook


class Savepoints(StatementHook):
    """An execute wrapper for one connection and one transaction of several records.

    `begin` before each record, `end` after it; `roll_back` undoes the record. `opened` counts those that were needed.
    """

    def __init__(self, connection: BaseDatabaseWrapper, *, eager: bool) -> None:
        self._connection = connection
        self._eager = eager
        self._is_handling = False
        self.is_open = False
        """The record that is being handled has one."""
        self.opened = 0

    def begin(self) -> None:
        """The next record is about to be handled."""
        self.is_open = False
        self._is_handling = True
        if self._eager:
            self.before_own_statement()

    def end(self) -> None:
        """The record's handler has returned or failed: what follows is the listener's own."""
        self._is_handling = False

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Django calls it around each query."""
        if self.is_open or not self._is_handling:
            return execute(sql, params, many, context)
        cursor = context["cursor"].cursor
        raw = self._connection.connection
        if many or getattr(cursor, "name", None) or not isinstance(sql, str):
            self.before_own_statement()
            return execute(sql, params, many, context)
        if isinstance(cursor, psycopg.ClientCursor):
            answer = execute(f"{self._opening()};{sql}", params, many, context)
            for _ in range(2 if self.opened > 1 else 1):
                cursor.nextset()
            return answer
        # Errors come to light when the pipeline ends: without the wrapper they would not be Django's.
        with self._connection.wrap_database_errors, raw.pipeline():
            for statement in self._opening().split(";"):
                raw.execute(statement)
            return execute(sql, params, many, context)

    def before_own_statement(self) -> None:
        """The handler publishes, or uses another cursor that takes no second statement."""
        if self._is_handling and not self.is_open:
            with self._connection.wrap_database_errors:
                self._connection.connection.execute(self._opening())

    def _opening(self) -> str:
        """The statements that release the savepoint before, if there was one, and open the record's own."""
        self.is_open = True
        self.opened += 1
        own = f"savepoint waystation_{self.opened}"
        return own if self.opened == 1 else f"release savepoint waystation_{self.opened - 1};{own}"

    def roll_back(self) -> bool:
        """Undoes what the record did in the transaction; False when only the whole transaction can be undone."""
        self._is_handling = False
        raw = self._connection.connection
        if raw is None or raw.closed or self._connection.closed_in_transaction:
            return False
        status = raw.info.transaction_status
        if not self.is_open:
            return status in (TransactionStatus.IDLE, TransactionStatus.INTRANS)
        if status not in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            return False
        try:
            raw.execute(f"rollback to savepoint waystation_{self.opened}")
        except psycopg.Error:  # it was never opened, or the handler has ended the transaction
            return False
        self.is_open = False
        return True
