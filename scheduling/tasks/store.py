"""The table of scheduled tasks: writing declarations into it, what is due, and firing that.

Firing is one statement: it moves the due time on by compare-and-set and inserts the run, unique by task and due time,
only while the caller holds the beats' lock. So each due time has one run, whoever else fires at the same moment, and a
beat that was stopped holds nothing while it sleeps. Statements are in `sql/tasks.sql`.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from brokers.database import sync_cursor
from brokers.errors import shown
from brokers.sql import parse
from scheduling import durations
from scheduling.connections import Cursor, OwnConnection
from scheduling.errors import InvalidSchedule
from scheduling.tasks import triggers
from scheduling.tasks.declared import Declaration

SQL: Final = parse(Path(__file__).parent.parent / "sql" / "tasks.sql")

log = logging.getLogger("waystation.scheduling")

CODE: Final = "code"
OPERATOR: Final = "operator"
BEAT_LOCK: Final = "waystation:beat"


@dataclass(frozen=True, slots=True)
class Due:
    """A task and the due time that comes next."""

    id: int
    name: str
    trigger: triggers.Trigger
    misfire: str
    due: datetime
    options: dict[str, Any]
    periodic_task: int | None
    """The operator's periodic task that it mirrors."""


@dataclass(frozen=True, slots=True)
class Firing:
    """A due time that is fired: the one after it, and when its run may start."""

    task: int
    due: datetime
    later: datetime | None
    start: datetime
    is_missed: bool
    """It is too late for it: only the next due time counts."""


@dataclass(frozen=True, slots=True)
class Fired:
    """The run that a firing made."""

    run: int
    task: int
    is_skipped: bool
    start: datetime


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it is written: what its code or its operator says."""

    name: str
    trigger: triggers.Trigger
    first_due: datetime | None
    options: dict[str, Any]
    overlap: str
    misfire: str
    periodic_task: int | None = None
    is_declared: bool = True


def declare(declarations: Iterable[Declaration]) -> list[str]:
    """Writes this process's declarations to the database, and says what is not declared any more.

    A task whose schedule is unchanged keeps its next due time, so that a deployment shifts nothing. Opens no
    transaction of its own.
    """
    wanted = list(declarations)
    with sync_cursor() as cursor:
        now = _now(cursor)
        tasks = [
            Task(each.name, each.trigger, each.trigger.first(now), each.options(), each.overlap, each.misfire)
            for each in wanted
        ]
        ours = write(cursor, CODE, tasks)
        said = [
            f"scheduled task {each.name} does not run: an operator's periodic task has its name"
            for each in wanted
            if each.name not in ours
        ]
        rows = cursor.execute(SQL.withdraw, (CODE, [each.name for each in wanted]))
        return [*said, *(f"scheduled task {name} is declared no more; its history stays" for (name,) in rows)]


def write(cursor: Cursor, source: str, tasks: Sequence[Task]) -> set[str]:
    """Inserts tasks or brings them up to date, in one statement; answers the names that are not of the other source.

    Raises `psycopg.DataError` when one of them cannot be stored, and then has written none.
    """
    parameters = {
        "source": source,
        "names": [each.name for each in tasks],
        "periodic_tasks": [each.periodic_task for each in tasks],
        "kinds": [each.trigger.kind for each in tasks],
        "specs": [json.dumps(each.trigger.spec()) for each in tasks],
        "options": [json.dumps(each.options) for each in tasks],
        "overlaps": [each.overlap for each in tasks],
        "misfires": [each.misfire for each in tasks],
        "are_declared": [each.is_declared for each in tasks],
        "first_dues": [each.first_due for each in tasks],
    }
    return {name for (name,) in cursor.execute(SQL.declare, parameters)}


def withdraw(cursor: Cursor, source: str, kept: Sequence[str]) -> None:
    """Tasks of a source other than these are due no more."""
    cursor.execute(SQL.withdraw, (source, list(kept)))


def due_before(connection: OwnConnection, until: datetime, limit: int) -> list[Due]:
    """The tasks that are due first, up to an instant."""
    with connection.cursor() as cursor:
        rows = cursor.execute(SQL.due, (until, limit)).fetchall()
    found: list[Due] = []
    for task, name, kind, spec, misfire, due, options, periodic_task in rows:
        try:
            trigger = triggers.from_spec(kind, spec)
            _check(options)
        except InvalidSchedule as error:
            shelve(connection, task, name, error)
            continue
        found.append(Due(task, name, trigger, misfire, due, options, periodic_task))
    return found


def _check(options: Any) -> None:
    """What the beat reads of a task's options; raises `InvalidSchedule`."""
    if not isinstance(options, dict):
        raise InvalidSchedule(f"options of a task are a JSON object, not {shown(options)}")
    spread = options.get("jitter_ms")
    if spread is not None and (not isinstance(spread, int) or not 0 <= spread <= durations.MAX_MS):
        raise InvalidSchedule(f"jitter_ms of a task is 0 to {durations.MAX_MS}, not {shown(spread)}")


def shelve(connection: OwnConnection, task: int, name: str, error: InvalidSchedule) -> None:
    """Takes a task out whose schedule makes no sense to this release; the next start declares it again."""
    log.error("a task's schedule cannot be read, it is not due any more", extra={"task": name, "error": error.detail})
    with connection.cursor() as cursor:
        cursor.execute(SQL.shelve, {"id": task, "why": f"its schedule cannot be read: {error.detail}"[:500]})


def revive(connection: OwnConnection) -> int:
    """Has fixed delays count whose run ended without that, as when its worker was killed; says how many."""
    with connection.cursor() as cursor:
        cursor.execute(SQL.revive)
        return cursor.rowcount


def firing(due: Due, now: datetime) -> Firing:
    """What firing a task means at this instant, by its schedule, its misfire policy and its jitter."""
    spread = due.options.get("jitter_ms") or 0
    start = due.due + timedelta(milliseconds=random.uniform(0, spread)) if spread else due.due  # noqa: S311
    is_late = now - due.due > timedelta(milliseconds=triggers.MISFIRE_MS)
    is_missed = is_late and due.misfire == triggers.SKIP and due.trigger.kind != "fixed_delay"
    return Firing(due.id, due.due, due.trigger.after(due.due, now), start, is_missed)


def fire(connection: OwnConnection, me: str, firings: Sequence[Firing]) -> list[Fired]:
    """Fires what nobody else has; an empty answer may also mean that this beat leads no more."""
    parameters = {
        "lock": BEAT_LOCK,
        "me": me,
        "tasks": [each.task for each in firings],
        "due": [each.due for each in firings],
        "later": [each.later for each in firings],
        "start": [each.start for each in firings],
        "missed": [each.is_missed for each in firings],
    }
    with connection.cursor() as cursor:
        rows = cursor.execute(SQL.fire, parameters).fetchall()
    return [Fired(run, task, state == "skipped", start) for run, task, state, start in rows]


def database_now(connection: OwnConnection) -> datetime:
    """The clock that counts."""
    with connection.cursor() as cursor:
        return _now(cursor)


def _now(cursor: Cursor) -> datetime:
    row = cursor.execute(SQL.clock).fetchone()
    assert row is not None
    now: datetime = row[0]
    return now
