"""What operators do with scheduled tasks: look at them and their runs, pause them, have them run now.

Called by REST, the console and the command; they authorise: reading takes `describe` on the resource type `schedule`,
the rest `alter`. A change and its entry in the audit record are one transaction, or part of the caller's; workers and
open pages are told after its commit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from django.db import transaction

from brokers import audit
from brokers.audit import Actor
from brokers.database import sync_cursor
from brokers.errors import Conflict, shown
from brokers.instants import rfc3339
from scheduling import announcing, runs
from scheduling.doorbell import doorbell
from scheduling.errors import InvalidSchedule, RunNotFound, TaskNotFound
from scheduling.tasks import store, triggers

MAX_NOTE: Final = 500
MAX_RUN_ID: Final = 2**63 - 1
MAX_WHO: Final = 200
UPCOMING: Final = 5
AT_ONCE: Final = 1000
"""Tasks that are read in one statement."""
ERROR_END: Final = 1000
"""Characters of an error that lists show: its end says most."""


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
        """The next due times; none of a schedule that this release cannot read."""
        if self.paused or not self.is_declared or self.next_due is None:
            return []
        try:
            return triggers.upcoming(triggers.from_spec(self.kind, self.spec), self.next_due, UPCOMING)
        except InvalidSchedule:
            return []


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


def page(
    after: str = "", limit: int = 100, wanted: Callable[[TaskInfo], bool] = lambda task: True
) -> tuple[list[TaskInfo], str | None]:
    """Tasks by name from behind `after` on, those that are `wanted`; and the name to go on after, if there are more."""
    found: list[TaskInfo] = []
    while True:
        rows = _tasks({"after": after, "name": None, "limit": AT_ONCE + 1})
        for task in rows[:AT_ONCE]:
            if wanted(task):
                if len(found) == limit:
                    return found, found[-1].name
                found.append(task)
        if len(rows) <= AT_ONCE:
            return found, None
        after = rows[AT_ONCE - 1].name


def get(name: str) -> TaskInfo:
    """One task. Raises `TaskNotFound`."""
    found = _tasks({"after": "", "name": name, "limit": 1})
    if not found:
        raise _not_found(name)
    return found[0]


def history(name: str, before: int = MAX_RUN_ID, limit: int = 100) -> list[RunInfo]:
    """Runs of a task, latest first, those with ids below `before`; without results, and of errors the ends."""
    parameters = {"name": name, "before": before, "limit": limit, "error": ERROR_END}
    with sync_cursor() as cursor:
        return [_run(row) for row in cursor.execute(store.SQL.history, parameters).fetchall()]


def run(name: str, number: int) -> RunInfo:
    """One run of a task, whole. Raises `RunNotFound`."""
    with sync_cursor() as cursor:
        row = cursor.execute(store.SQL.run, {"name": name, "run": min(number, MAX_RUN_ID)}).fetchone()
    if row is None:
        raise RunNotFound(f"the scheduled task {shown(name)} has no run {number}; runs are forgotten after some time")
    return _run(row)


def run_now(name: str, *, actor: Actor) -> int:
    """Has a task run once, outside its schedule and even when it is paused; answers the run's id.

    Where runs of the task exclude each other it waits for its turn. Raises `TaskNotFound`, also for a task that is not
    declared any more.
    """

    with transaction.atomic():
        made = runs.run_now(name, actor.principal[:MAX_WHO])
        if made is None:
            raise _not_found(name)
        audit.record(actor, "run", "schedule", name, {"run": made})
        transaction.on_commit(partial(_tell, made), robust=True)
    return made


def _tell(run: int) -> None:
    doorbell.ring(run)
    announcing.tasks_changed()


def set_paused(name: str, paused: bool | None = None, note: str | None = None, *, actor: Actor) -> bool:
    """Pauses a task, or has it go on: due times that passed meanwhile are not made good. False: it was so already.

    None leaves it as it is; a change without a `note` takes the note away that belonged to what was before. What runs
    goes on running. Raises `TaskNotFound`, and `InvalidSchedule` for a note that is too long.
    """
    if note is not None and (len(note) > MAX_NOTE or "\0" in note):
        raise InvalidSchedule(f"a note has up to {MAX_NOTE} characters, and no NUL", pointer="/note")
    with transaction.atomic(), sync_cursor() as cursor:
        row = cursor.execute(store.SQL.lock_task, (name,)).fetchone()
        if row is None:
            raise _not_found(name)
        kind, spec, was_paused, noted, next_due, now = row
        wanted = was_paused if paused is None else paused
        text = (noted if wanted == was_paused else "") if note is None else note
        if (wanted, text) == (was_paused, noted):
            return False
        if was_paused and not wanted:
            next_due = triggers.resumed(triggers.from_spec(kind, json.loads(spec)), next_due, now)
        cursor.execute(store.SQL.set_paused, {"name": name, "paused": wanted, "note": text, "next_due": next_due})
        operation = "note" if wanted == was_paused else "pause" if wanted else "resume"
        audit.record(actor, operation, "schedule", name, {"before": noted, "note": text})
        transaction.on_commit(announcing.tasks_changed, robust=True)
    return True


def skip_next(name: str, due: datetime, *, actor: Actor) -> datetime:
    """Leaves out the due time that comes next; answers the one after it. The history has it as skipped.

    Raises `TaskNotFound`, `InvalidSchedule` for a task that is due one time only, and `Conflict` when `due` is not, or
    not any more, what comes next.
    """
    with transaction.atomic(), sync_cursor() as cursor:
        row = cursor.execute(store.SQL.lock_task, (name,)).fetchone()
        if row is None:
            raise _not_found(name)
        kind, spec, _, _, next_due, now = row
        if due != next_due:
            raise _another(name, due)
        later = triggers.skipped(triggers.from_spec(kind, json.loads(spec)), due, now)
        who = actor.principal[:MAX_WHO]
        parameters = {"name": name, "due": due, "later": later, "why": f"skipped by {who}", "who": who}
        if cursor.execute(store.SQL.skip_next, parameters).fetchone() is None:
            raise _another(name, due)
        audit.record(actor, "skip", "schedule", name, {"due": rfc3339(due), "next": rfc3339(later)})
        transaction.on_commit(announcing.tasks_changed, robust=True)
    return later


def _tasks(parameters: dict[str, Any]) -> list[TaskInfo]:
    with sync_cursor() as cursor:
        rows = cursor.execute(store.SQL.page, parameters | {"error": ERROR_END}).fetchall()
    return [_task(row) for row in rows]


def _task(row: tuple[Any, ...]) -> TaskInfo:
    spec, options = json.loads(row[3]), json.loads(row[4])  # Django's connection leaves JSON as text
    last_run = None if row[11] is None else LastRun(*row[11:])
    return TaskInfo(*[*row[:3], spec, options, *row[5:11], last_run])


def _run(row: tuple[Any, ...]) -> RunInfo:
    return RunInfo(*[*row[:8], None if row[8] is None else json.loads(row[8]), *row[9:]])


def _another(name: str, due: datetime) -> Conflict:
    return Conflict(f"{due.isoformat()} is not when {shown(name)} is due next; look again")


def _not_found(name: str) -> TaskNotFound:
    return TaskNotFound(f"there is no scheduled task {shown(name)}")
