"""What operators do with scheduled tasks: look at them and their runs, pause them, have them run now.

Called by REST, the console and the command; they authorise. Changes are part of the caller's transaction, and the
workers are told after its commit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import transaction

from brokers.database import sync_cursor
from scheduling import runs
from scheduling.doorbell import doorbell
from scheduling.errors import InvalidSchedule, TaskNotFound
from scheduling.tasks import store, triggers

MAX_NOTE: Final = 500
MAX_RUN_ID: Final = 2**63 - 1
UPCOMING: Final = 5


@dataclass(frozen=True, slots=True)
class LastRun:
    """The latest run of a task, ended or not."""

    id: int
    state: str
    due_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: str
    process: str


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A scheduled task for people."""

    name: str
    source: str
    kind: str
    spec: dict[str, Any]
    options: dict[str, Any]
    overlap: str
    misfire: str
    paused: bool
    note: str
    next_due: datetime | None
    is_declared: bool
    last_run: LastRun | None

    def words(self) -> str:
        """The schedule in words."""
        try:
            return triggers.from_spec(self.kind, self.spec).words()
        except InvalidSchedule as error:
            return error.detail

    def upcoming(self) -> list[datetime]:
        """The next due times."""
        if self.paused or not self.is_declared or self.next_due is None:
            return []
        return triggers.upcoming(triggers.from_spec(self.kind, self.spec), self.next_due, UPCOMING)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run for people."""

    id: int
    state: str
    trigger: str
    due_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    attempts: int
    error: str
    result: Any
    process: str
    called_by: str


def page(after: str = "", limit: int = 100) -> list[TaskInfo]:
    """Tasks by name, from behind `after` on."""
    return _tasks({"after": after, "name": None, "limit": limit})


def get(name: str) -> TaskInfo:
    """One task. Raises `TaskNotFound`."""
    found = _tasks({"after": "", "name": name, "limit": 1})
    if not found:
        raise _not_found(name)
    return found[0]


def history(name: str, before: int = MAX_RUN_ID, limit: int = 100) -> list[RunInfo]:
    """Runs of a task, latest first, those with ids below `before`."""
    with sync_cursor() as cursor:
        rows = cursor.execute(store.SQL.history, {"name": name, "before": before, "limit": limit}).fetchall()
    return [RunInfo(*[*row[:8], None if row[8] is None else json.loads(row[8]), *row[9:]]) for row in rows]


def run_now(name: str, who: str) -> int:
    """Has a task run once, outside its schedule and even when it is paused; answers the run's id.

    Where runs of the task exclude each other it waits for its turn. Raises `TaskNotFound`, also for a task that is not
    declared any more.
    """
    run = runs.run_now(name, who)
    if run is None:
        raise _not_found(name)

    def ring() -> None:
        doorbell.ring(run)

    transaction.on_commit(ring, robust=True)
    return run


def set_paused(name: str, paused: bool, note: str = "") -> None:
    """Pauses a task, or has it go on: due times that passed meanwhile are not made good.

    What runs goes on running. Raises `TaskNotFound` and `InvalidSchedule`.
    """
    if len(note) > MAX_NOTE or "\0" in note:
        raise InvalidSchedule(f"a note has up to {MAX_NOTE} characters, and no NUL")
    with transaction.atomic(), sync_cursor() as cursor:
        row = cursor.execute(store.SQL.lock_task, (name,)).fetchone()
        if row is None:
            raise _not_found(name)
        kind, spec, was_paused, next_due, now = row
        if was_paused and not paused:
            next_due = triggers.resumed(triggers.from_spec(kind, json.loads(spec)), next_due, now)
        cursor.execute(store.SQL.set_paused, {"name": name, "paused": paused, "note": note, "next_due": next_due})


def _tasks(parameters: dict[str, Any]) -> list[TaskInfo]:
    with sync_cursor() as cursor:
        rows = cursor.execute(store.SQL.page, parameters).fetchall()
    return [_task(row) for row in rows]


def _task(row: tuple[Any, ...]) -> TaskInfo:
    spec, options = json.loads(row[3]), json.loads(row[4])  # Django's connection leaves JSON as text
    last_run = None if row[11] is None else LastRun(*row[11:])
    return TaskInfo(*[*row[:3], spec, options, *row[5:11], last_run])


def _not_found(name: str) -> TaskNotFound:
    return TaskNotFound(f"there is no scheduled task {name[:200]!r}")
