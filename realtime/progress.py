"""`Progress`: how far a long task has come, for the user who waits for it.

Each change is a row's next number. It is visible at once, also while the caller's transaction is open: a handler works
in one. Only the completion is part of that transaction, since it says that what was done is done. Used by web, worker
and task processes alike, as a `with` block or step by step; `sse.progress_stream` shows it.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Final, LiteralString, ParamSpec, Self, TypeVar

import psycopg
from asgiref.sync import sync_to_async
from django.db import transaction
from psycopg.conninfo import conninfo_to_dict

from brokers import record_input, wakeup
from brokers.database import acquire, conninfo, in_handler, in_transaction, store_errors, sync_cursor
from brokers.errors import InvalidValue, ProgressFinished, ProgressNotFound, TooLarge, shown
from realtime.notifications import user_name
from realtime.sql import load
from realtime.threads import in_thread

P = ParamSpec("P")
T = TypeVar("T")
Cursor = psycopg.Cursor[tuple[Any, ...]]

SQL = load("progress")

WRITE_SECONDS: Final = 0.2
"""Changes that come sooner after the last one that was written are kept in memory until the next."""
MAX_RESULT_BYTES: Final = 64 * 1024
_MOST: Final = 2**63 - 1
_LOCK_WAIT: Final = "1s"
"""How long a change waits for a transaction that is about to complete the same task."""
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A task as its row says; the result is JSON text."""

    user: str
    title: str
    state: str
    number: int
    current: int
    total: int | None
    message: str
    result: str | None
    error: str | None
    started_at: datetime
    updated_at: datetime

    @property
    def finished(self) -> bool:
        """Whether it has completed or failed: nothing changes any more."""
        return self.state != "running"


class Progress:
    """A task's progress. As a `with` block it completes at the end, or fails with the exception that leaves it.

    `id` goes into the address of its stream, `/api/progress/{id}/stream`, which only `user` (and superusers) may read.
    Changes are seen at once; inside of a database transaction the completion is seen when that commits, and never when
    it rolls back. Asynchronous code takes `abegin`, `async with`, and the methods with an `a` in front. Not for several
    threads at once. Everything that writes raises `Unavailable` while the database is away.
    """

    def __init__(self, title: str, *, user: Any, total: int | None = None, id: str | None = None) -> None:  # noqa: A002
        """Begins a task, whose row is visible when this returns.

        `user` is a user name or a Django user; `id` is made up unless given. The id of a task of the same user that did
        not complete begins anew, as for a handler that is called again. Raises `InvalidValue`, also for an id that is
        taken.
        """
        self.id = secrets.token_urlsafe(16) if id is None else id
        self.current = 0
        self.total = _checked_number(total, "total") if total is not None else None
        self.message = ""
        self._finished = self._completing = False
        self._written_at = time.monotonic()
        if not isinstance(self.id, str) or not _ID.fullmatch(self.id):
            raise InvalidValue(f"{shown(id)} is no id: 1 to 64 of [A-Za-z0-9._-]", pointer="/id")
        made = {"user": user_name(user), "title": _text(title, 200)}
        with _apart() as cursor:
            if cursor.execute(SQL.create, self._row() | made).fetchone() is None:
                raise InvalidValue(f"the id {self.id} is taken", pointer="/id")
        self._announce()

    @classmethod
    async def abegin(cls, title: str, *, user: Any, total: int | None = None, id: str | None = None) -> Self:  # noqa: A002
        """`Progress(...)` for asynchronous code."""
        return await _aside(cls, title, user=user, total=total, id=id)

    @classmethod
    def of(cls, id: str) -> Self:  # noqa: A002
        """The task of this id, in another process than the one that began it; one that failed runs again.

        So a handler that is called again takes it up. Raises `ProgressNotFound`, and `ProgressFinished` when it has
        completed.
        """
        if not isinstance(id, str) or not _ID.fullmatch(id):
            raise ProgressNotFound(f"there is no task {shown(id)}")
        with _apart() as cursor:
            failed = cursor.execute(SQL.take_up, (id,)).fetchone() is not None
            row = cursor.execute(SQL.find, (id,)).fetchone()
        found = _found(id, row)
        if found.finished:
            raise ProgressFinished(f"task {id} has {found.state}")
        made = cls.__new__(cls)
        made.id, made.current, made.total, made.message = id, found.current, found.total, found.message
        made._finished = made._completing = False
        made._written_at = 0.0
        if failed:
            made._announce()
        return made

    def update(self, *, current: int | None = None, total: int | None = None, message: str | None = None) -> None:
        """Says how far it is; what is not given stays.

        Written when the last write is 0.2 s ago, else with the next change; `flush` writes at once. Raises
        `InvalidValue`, and `ProgressFinished` when it has ended, here or elsewhere.
        """
        self._check_running()
        if current is not None:
            self.current = _checked_number(current, "current")
        if total is not None:
            self.total = _checked_number(total, "total")
        if message is not None:
            self.message = _text(message, 500)
        if time.monotonic() - self._written_at >= WRITE_SECONDS:
            self.flush()

    async def aupdate(
        self, *, current: int | None = None, total: int | None = None, message: str | None = None
    ) -> None:
        """`update` for asynchronous code."""
        await _aside(self.update, current=current, total=total, message=message)

    def advance(self, by: int = 1, *, message: str | None = None) -> None:
        """`update` by so many more steps."""
        self.update(current=self.current + by, message=message)

    def flush(self) -> None:
        """Writes what is not written yet; raises as `update` does."""
        self._check_running()
        self._write(SQL.update, self._row(), _apart)
        self._announce()

    def complete(self, result: Any = None) -> None:
        """Ends it well; the result is anything that has a JSON form of at most 64 KiB.

        Inside a database transaction it is part of it: when that rolls back the task is still running, and `fail` may
        follow. Raises `UnencodableValue`, `TooLarge`, and `ProgressFinished` when it has ended already.
        """
        text = record_input.encode_json(result).decode()
        if len(text) > MAX_RESULT_BYTES:
            raise TooLarge(f"the result has {len(text)} characters of JSON; {MAX_RESULT_BYTES} are allowed")
        if self.total is not None:
            self.current = self.total
        end = {"state": "completed", "result": text, "error": None}
        self._check_running()
        self._completing = in_transaction()
        self._write(SQL.finish, self._row() | end, sync_cursor)
        if self._completing:
            transaction.on_commit(self._completed, robust=True)
        else:
            self._completed()

    async def acomplete(self, result: Any = None) -> None:
        """`complete` for asynchronous code."""
        await _aside(self.complete, result)

    def fail(self, error: BaseException | str) -> None:
        """Ends it badly, at once; of an exception its class and text are shown.

        Raises `ProgressFinished` as `complete` does, also while an open transaction completes it.
        """
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        end = {"state": "failed", "result": None, "error": _text(text, 500)}
        self._check_running()
        self._write(SQL.finish, self._row() | end, _apart)
        self._finished = True
        self._announce()

    async def afail(self, error: BaseException | str) -> None:
        """`fail` for asynchronous code."""
        await _aside(self.fail, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(ProgressFinished):
                self.fail(error)
        elif not self._finished and not self._completing:
            self.complete()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _aside(self.__exit__, kind, error, trace)

    def _completed(self) -> None:
        self._finished = True
        self._announce()

    def _announce(self) -> None:
        wakeup.announce_streams([hint(self.id)])

    def _check_running(self) -> None:
        if self._finished:
            raise ProgressFinished(f"task {self.id} is over")

    def _row(self) -> dict[str, Any]:
        return {"id": self.id, "current": self.current, "total": self.total, "message": self.message}

    def _write(
        self, statement: LiteralString, row: Mapping[str, Any], lend: Callable[[], AbstractContextManager[Cursor]]
    ) -> None:
        with lend() as cursor:
            written = cursor.execute(statement, row).fetchone()
        if written is None:
            self._finished = True
            raise ProgressFinished(f"task {self.id} is over, or was forgotten")
        self._written_at = time.monotonic()


async def _aside(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs it where synchronous code belongs: in a handler on the thread of its transaction."""
    if in_handler.get():
        return await sync_to_async(function)(*args, **kwargs)
    return await in_thread(function, *args, **kwargs)


@contextmanager
def _apart() -> Iterator[Cursor]:
    """A cursor whose statements commit by themselves, whatever the caller has open.

    Inside a transaction that takes a connection of its own, for a few milliseconds a few times a second.
    """
    if not in_transaction():
        with sync_cursor() as cursor:
            yield cursor
        return
    where = conninfo()
    options = f"{conninfo_to_dict(where)['options']} -c lock_timeout={_LOCK_WAIT}"
    with store_errors(), psycopg.connect(where, autocommit=True, options=options) as conn, conn.cursor() as cursor:
        try:
            yield cursor
        except psycopg.errors.LockNotAvailable as error:
            raise ProgressFinished("a transaction that is still open completes the task") from error


def hint(task: str) -> str:
    """What is announced when a task has changed."""
    return f"u{task}"


def _checked_number(number: int, name: str) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _MOST:
        raise InvalidValue(f"{name} is a number of steps, not {shown(number)}", pointer=f"/{name}")
    return number


def _text(text: str, length: int) -> str:
    """What the database can hold of it."""
    return str(text).replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:length]


def _found(task: str, row: tuple[Any, ...] | None) -> Snapshot:
    if row is None:
        raise ProgressNotFound(f"there is no task {shown(task)}")
    return Snapshot(*row)


# -- reading, for streams -----------------------------------------------------------------------------------------


async def find(task: str) -> Snapshot:
    """A task as it stands; raises `ProgressNotFound`."""
    async with acquire() as conn:
        return _found(task, await (await conn.execute(SQL.find, (task,))).fetchone())


async def numbers(tasks: list[str]) -> dict[str, int]:
    """The number of each task, by its hint."""
    async with acquire() as conn:
        rows = await (await conn.execute(SQL.numbers, (tasks,))).fetchall()
    return {hint(task): number for task, number in rows}
