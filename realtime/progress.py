"""`Progress`: how far a long task has come, for the user who waits for it.

Each change is a row's next number, visible at once: it is written outside of the caller's transaction. Used by web,
worker and task processes alike, as a `with` block or step by step; `sse.progress_stream` shows it.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Final, LiteralString, Self

import psycopg

from brokers import record_input, wakeup
from brokers.database import acquire, conninfo, in_transaction, store_errors, sync_cursor
from brokers.errors import InvalidValue, ProgressFinished, ProgressNotFound, TooLarge, shown
from realtime.notifications import user_name
from realtime.sql import load

SQL = load("progress")

WRITE_SECONDS: Final = 0.2
"""Changes that come sooner after the last one that was written are kept in memory until the next."""
KEPT_SECONDS: Final = 7 * 86_400
"""How long a task is remembered after its last change."""
MAX_RESULT_BYTES: Final = 64 * 1024
_PURGED_AT_ONCE: Final = 100
_MOST: Final = 2**63 - 1
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
    Not for several threads at once. Everything that writes raises `Unavailable` while the database is away.
    """

    def __init__(self, title: str, *, user: Any, total: int | None = None, id: str | None = None) -> None:  # noqa: A002
        """Begins a task, whose row is visible when this returns.

        `user` is a user name or a Django user; `id` is made up unless given. Raises `InvalidValue`, also for an id
        that is taken.
        """
        self.id = secrets.token_urlsafe(16) if id is None else id
        self.current = 0
        self.total = _checked_number(total, "total") if total is not None else None
        self.message = ""
        self._finished = False
        self._written_at = time.monotonic()
        if not isinstance(self.id, str) or not _ID.fullmatch(self.id):
            raise InvalidValue(f"{shown(id)} is no id: 1 to 64 of [A-Za-z0-9._-]", pointer="/id")
        made = {"user": user_name(user), "title": _text(title, 200)}
        with _apart() as cursor:
            cursor.execute(SQL.purge, {"seconds": KEPT_SECONDS, "limit": _PURGED_AT_ONCE})
            if cursor.execute(SQL.create, self._row() | made).fetchone() is None:
                raise InvalidValue(f"the id {self.id} is taken", pointer="/id")

    @classmethod
    def of(cls, id: str) -> Self:  # noqa: A002
        """The running task of this id, in another process than the one that began it.

        Raises `ProgressNotFound`, and `ProgressFinished` when it is over.
        """
        with _apart() as cursor:
            row = cursor.execute(SQL.find, (id,)).fetchone()
        found = _found(id, row)
        if found.finished:
            raise ProgressFinished(f"task {id} has {found.state}")
        made = cls.__new__(cls)
        made.id, made.current, made.total, made.message = id, found.current, found.total, found.message
        made._finished, made._written_at = False, 0.0
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

    def advance(self, by: int = 1, *, message: str | None = None) -> None:
        """`update` by so many more steps."""
        self.update(current=self.current + by, message=message)

    def flush(self) -> None:
        """Writes what is not written yet; raises as `update` does."""
        self._check_running()
        self._write(SQL.update, self._row())

    def complete(self, result: Any = None) -> None:
        """Ends it well; the result is anything that has a JSON form of at most 64 KiB.

        Raises `UnencodableValue`, `TooLarge`, and `ProgressFinished` when it has ended already.
        """
        text = record_input.encode_json(result).decode()
        if len(text) > MAX_RESULT_BYTES:
            raise TooLarge(f"the result has {len(text)} characters of JSON; {MAX_RESULT_BYTES} are allowed")
        if self.total is not None:
            self.current = self.total
        self._finish({"state": "completed", "result": text, "error": None})

    def fail(self, error: BaseException | str) -> None:
        """Ends it badly; of an exception its class and text are shown. Raises `ProgressFinished` as `complete` does."""
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._finish({"state": "failed", "result": None, "error": _text(text, 500)})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._finished:
            return
        if error is None:
            self.complete()
        else:
            self.fail(error)

    def _finish(self, end: dict[str, Any]) -> None:
        self._check_running()
        self._write(SQL.finish, self._row() | end)
        self._finished = True

    def _check_running(self) -> None:
        if self._finished:
            raise ProgressFinished(f"task {self.id} is over")

    def _row(self) -> dict[str, Any]:
        return {"id": self.id, "current": self.current, "total": self.total, "message": self.message}

    def _write(self, statement: LiteralString, row: Mapping[str, Any]) -> None:
        with _apart() as cursor:
            written = cursor.execute(statement, row).fetchone()
        if written is None:
            self._finished = True
            raise ProgressFinished(f"task {self.id} is over, or was forgotten")
        self._written_at = time.monotonic()
        wakeup.announce_streams([hint(self.id)])


@contextmanager
def _apart() -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
    """A cursor whose statements commit by themselves, whatever the caller has open.

    Inside a transaction that takes a connection of its own, for a few milliseconds a few times a second.
    """
    if not in_transaction():
        with sync_cursor() as cursor:
            yield cursor
        return
    with store_errors(), psycopg.connect(conninfo(), autocommit=True) as conn, conn.cursor() as cursor:
        yield cursor


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
