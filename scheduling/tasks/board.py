"""Scheduled tasks and their runs as the console shows them: how tasks stand, and their history page by page.

Every look is bounded by an index: of each task only its latest runs are read, and of a history so many at once, however
many there are. Called by the console; for REST and the command see `control`. Statements are in `sql/task_board.sql`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from brokers.database import sync_cursor
from brokers.sql import parse
from scheduling.errors import RunNotFound
from scheduling.tasks.control import MAX_RUN_ID, LastRun, TaskInfo

SQL: Final = parse(Path(__file__).parent.parent / "sql" / "task_board.sql")

AT_ONCE: Final = 1000
"""Tasks that are read in one statement."""
LATEST: Final = 100
"""Runs that tell how a task has fared."""
MOST_OPEN: Final = 1000
"""Open runs of a task that are counted."""
WINDOW: Final = 5000
"""Runs that one page of a history looks through for those of a state."""
LATEST_DUE: Final = datetime.max.replace(tzinfo=UTC)
"""Before it is everything."""
MAX_LOCK_TASKS: Final = 500


@dataclass(frozen=True, slots=True)
class Listed:
    """A task, and what tells how it stands."""

    id: int
    name: str
    source: str
    has_periodic_task: bool
    """Whether an operator's periodic task stands behind it still."""
    paused: bool
    is_declared: bool
    next_due: datetime | None
    kind: str
    is_running: bool
    last_state: str | None
    """How the latest run ended that was not skipped; None without one among the latest."""


@dataclass(frozen=True, slots=True)
class Card:
    """A task and how its latest runs went; `info.last_run` is the last that ended."""

    id: int
    periodic_task: int | None
    """The operator's periodic task that it mirrors."""
    info: TaskInfo
    running: int
    waiting: int
    """Runs that are due, or put off by jitter, and have not begun: up to `MOST_OPEN`."""
    skipped: int
    """Of the latest runs."""
    failed: int
    """Of the latest runs: those that failed, timed out or lost their worker."""
    seen: int
    """How many latest runs there are, up to `LATEST`."""
    took_ms: list[int]
    """How long the latest runs took that began and ended, oldest first."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in the history; texts that may be long are cut."""

    id: int
    state: str
    trigger: str
    due_at: datetime
    next_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    attempts: int
    losses: int
    error: str
    result: str | None
    """As JSON."""
    process: str
    called_by: str

    @property
    def took_ms(self) -> int | None:
        """From the first attempt's beginning to the end, in milliseconds."""
        return _milliseconds(self.started_at, self.ended_at)

    @property
    def late_ms(self) -> int | None:
        """From its due time to its beginning, in milliseconds."""
        return _milliseconds(self.due_at, self.started_at)


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs of a task, latest first."""

    runs: list[RunLine]
    before: datetime | None
    """The due time to go on before; None at the end."""
    is_window_over: bool = False
    """Whether the page ends where the look through the history does: there may be more of that state."""


@dataclass(frozen=True, slots=True)
class WholeRun:
    """One run with all that is kept of it."""

    line: RunLine
    fired_by: str
    lease_until: datetime | None
    rung_at: datetime | None


@dataclass(frozen=True, slots=True)
class LockUse:
    """A task whose runs take a lock, and for how long."""

    lock: str
    task: str
    at_most_ms: int
    at_least_ms: int


def listed(after: str, text: str, wanted: Callable[[Listed], bool], limit: int) -> tuple[list[Listed], str | None]:
    """Tasks by name whose names hold the text, those that are `wanted`; and the name to go on after, if there are more.

    Raises `Unavailable`, as all of this module do.
    """
    found: list[Listed] = []
    while True:
        parameters = {"after": after, "text": text, "latest": LATEST, "limit": AT_ONCE + 1}
        with sync_cursor() as cursor:
            rows = cursor.execute(SQL.listed, parameters).fetchall()
        for row in rows[:AT_ONCE]:
            task = Listed(*row)
            if wanted(task):
                if len(found) == limit:
                    return found, found[-1].name
                found.append(task)
        if len(rows) <= AT_ONCE:
            return found, None
        after = rows[AT_ONCE - 1][1]


def cards(ids: Sequence[int]) -> list[Card]:
    """Some tasks as cards, by name."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.cards, {"ids": list(ids), "latest": LATEST, "most_open": MOST_OPEN}).fetchall()
    return [_card(row) for row in rows]


def card(name: str) -> Card | None:
    """One task; None when there is none of that name."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.find, (name,)).fetchone()
    found = [] if row is None else cards([row[0]])
    return found[0] if found else None


def history(task: int, before: datetime = LATEST_DUE, states: Sequence[str] = (), limit: int = 50) -> RunPage:
    """Runs of a task due before an instant, latest first; only those in one of the states, if some are given."""
    parameters = {
        "task": task,
        "before": before,
        "states": list(states) or None,
        "window": WINDOW if states else limit + 1,
        "limit": limit + 1,
    }
    with sync_cursor() as cursor:
        found = [RunLine(*row) for row in cursor.execute(SQL.runs, parameters).fetchall()]
        if len(found) > limit:
            return RunPage(found[:limit], found[limit - 1].due_at)
        end = cursor.execute(SQL.window_end, parameters).fetchone() if states else None
    return RunPage(found, None if end is None else end[0], is_window_over=end is not None)


def run(task: int, number: int) -> WholeRun:
    """One run of a task. Raises `RunNotFound`."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.run, {"task": task, "run": min(number, MAX_RUN_ID)}).fetchone()
    if row is None:
        raise RunNotFound(f"the task has no run {number}; runs are forgotten some time after they ended")
    return WholeRun(RunLine(*row[:13]), *row[13:])


def uses(locks: Sequence[str]) -> list[LockUse]:
    """The declared tasks whose runs take these locks, by name, at most `MAX_LOCK_TASKS`."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.of_locks, {"locks": list(locks), "limit": MAX_LOCK_TASKS}).fetchall()
    return [LockUse(*row) for row in rows]


def at_work(processes: Sequence[str]) -> set[str]:
    """Which of these processes (`host:pid`) are at a run and renew its lease, so that they are alive."""
    with sync_cursor() as cursor:
        return {row[0] for row in cursor.execute(SQL.at_work, (list(processes),))}


def _card(row: tuple[Any, ...]) -> Card:
    task, periodic_task = row[:2]
    spec, options = json.loads(row[5]), json.loads(row[6])  # Django's connection leaves JSON as text
    last_run = None if row[13] is None else LastRun(*row[13:20])
    info = TaskInfo(
        name=row[2],
        source=row[3],
        kind=row[4],
        spec=spec,
        options=options,
        overlap=row[7],
        misfire=row[8],
        paused=row[9],
        note=row[10],
        next_due=row[11],
        is_declared=row[12],
        last_run=last_run,
    )
    running, waiting, skipped, failed, seen, took, created_at = row[20:]
    return Card(task, periodic_task, info, running, waiting, skipped, failed, seen, list(took or ()), created_at)


def _milliseconds(begin: datetime | None, end: datetime | None) -> int | None:
    if begin is None or end is None:
        return None
    return max((end - begin) // timedelta(milliseconds=1), 0)
