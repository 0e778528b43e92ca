"""What a run stands for in this process: the function to call, and what else its declaration says.

A task that is declared in code, an operator's periodic task, or a durable background function. Called by `performing`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from brokers.database import sync_cursor
from scheduling import runs
from scheduling.connections import OwnConnection
from scheduling.durable import doing
from scheduling.errors import TaskNotFound
from scheduling.locks import scheduler_lock
from scheduling.runs import Attempt
from scheduling.tasks import declared, store
from scheduling.worker.outcome import Outcome


class Skipped(Exception):
    """A run that was not done, and why."""


class Work(Protocol):
    """One run, ready to be called."""

    @property
    def timeout_seconds(self) -> float | None:
        """After which it is interrupted."""

    def call(self) -> object:
        """Does it; raises whatever the function raises, and `Skipped`."""

    def end(self, connection: OwnConnection, outcome: Outcome) -> str | None:
        """Writes down how it ended; the run's state, None when the attempt had lost it. Raises `Unavailable`."""


@dataclass(frozen=True, slots=True)
class TaskRun:
    """A run of a scheduled task."""

    attempt: Attempt
    function: Callable[[], object]
    timeout_seconds: float | None = None

    def call(self) -> object:
        """As `Work.call`."""
        return self.function()

    def end(self, connection: OwnConnection, outcome: Outcome) -> str | None:
        """As `Work.end`."""
        result = {"unstored": outcome.not_kept} if outcome.not_kept else outcome.result
        done = runs.finish(connection, self.attempt, outcome.state, result=result, error=outcome.error)
        return outcome.state if done else None


def find(attempt: Attempt, is_lost: Callable[[], bool]) -> Work:
    """What to call; calling it raises `TaskNotFound` where this process has no such task.

    `is_lost` says whether the run was taken from this process.
    """
    if attempt.task_id is None:
        return doing.find(attempt, is_lost)
    declaration = declared.declaration(attempt.function) if attempt.source == store.CODE else None
    if declaration is not None:
        timeout = None if declaration.timeout_ms is None else declaration.timeout_ms / 1000
        return TaskRun(attempt, lambda: _call(declaration), timeout)
    return TaskRun(attempt, lambda: _call_operators(attempt))


def _call(declaration: declared.Declaration) -> object:
    if declaration.lock is None:
        return declaration.function()
    at_most, at_least = declaration.lock_at_most_for_ms, declaration.lock_at_least_for_ms
    with scheduler_lock(declaration.lock, at_most_for=at_most, at_least_for=at_least) as lock:
        if lock is None:
            raise Skipped(f"the lock {declaration.lock} was held by another")
        return declaration.function()


def _call_operators(attempt: Attempt) -> object:
    """Calls what an operator has scheduled: a Celery task that this worker knows."""
    from scheduling.celery_app import app

    with sync_cursor() as cursor:
        row = cursor.execute(store.SQL.operators_call, (attempt.task_id,)).fetchone()
    if row is None or row[0] is None or row[0] not in app.tasks:
        named = attempt.function if row is None or row[0] is None else row[0]
        raise TaskNotFound(f"this worker knows no task {named!r}; is its app in WAYSTATION_APPS?")
    task, arguments, keywords = row[0], json.loads(row[1]), json.loads(row[2])
    return app.tasks[task](*arguments, **keywords)
