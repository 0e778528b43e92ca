"""Beats and workers without Celery for tests of scheduled tasks: time stands still, and what is due is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from scheduling import runs
from scheduling.beat.leadership import Leadership
from scheduling.connections import OwnConnection
from scheduling.runs import Attempt
from scheduling.tasks import declared, store
from scheduling.tasks.store import Fired


class Database:
    """What the tables say, and what a test changes in them."""

    def __init__(self) -> None:
        self.own = OwnConnection("tests")

    def rows(self, statement: Any, *parameters: object) -> list[tuple[Any, ...]]:
        with self.own.cursor() as cursor:
            return cursor.execute(statement, parameters).fetchall()

    def do(self, statement: Any, *parameters: object) -> None:
        with self.own.cursor() as cursor:
            cursor.execute(statement, parameters)

    def states(self, name: str) -> list[str]:
        """States of a task's runs, oldest first."""
        statement = """select r.state from scheduling_run r join scheduling_scheduledtask t on t.id = r.task_id
                       where t.name = %s order by r.id"""
        return [row[0] for row in self.rows(statement, name)]

    def task(self, name: str, column: str) -> Any:
        """One column of a task."""
        statement = psycopg.sql.SQL("select {} from scheduling_scheduledtask where name = %s")
        ((value,),) = self.rows(statement.format(psycopg.sql.Identifier(column)), name)
        return value

    def make_due(self, name: str, late: str = "0 s") -> None:
        """A task's due time has come, or passed."""
        self.do(
            "update scheduling_scheduledtask set next_due = clock_timestamp() - %s::interval where name = %s",
            late,
            name,
        )

    def fire(self, leads: Leadership) -> list[Fired]:
        """What a leading beat does when it looks."""
        now = store.database_now(self.own)
        due = store.due_before(self.own, now, 100)
        return store.fire(self.own, leads.me, [store.firing(each, now) for each in due])

    def fire_at_once(self, leads: Leadership, name: str) -> int:
        """A run of a task that was made due."""
        self.make_due(name)
        (fired,) = self.fire(leads)
        return fired.run

    def claim(self, run: int) -> Attempt | None:
        return runs.claim(self.own, run, "tests")

    def claimed(self, run: int) -> Attempt:
        attempt = self.claim(run)
        assert attempt is not None
        return attempt


@contextmanager
def declaring(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is declared in the block is all that is declared."""
    monkeypatch.setattr(declared, "_declared", {})
    yield
    store.declare(declared.declarations())
