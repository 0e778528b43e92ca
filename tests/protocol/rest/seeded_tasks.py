"""Scheduled tasks in a server's database, as `up` would have declared them and a worker left their runs."""

from __future__ import annotations

import json
from typing import Any

import psycopg

CRON = {"cron": "0 0 8 * * *", "zone": "America/New_York"}


def task_of(connection: psycopg.Connection[Any], name: str, **columns: Any) -> int:
    """A declared task that is due at eight in the morning, New York time; its id."""
    given: dict[str, Any] = {
        "name": name,
        "source": "code",
        "kind": "cron",
        "spec": json.dumps(CRON),
        "options": json.dumps({"timeout_ms": 60_000, "jitter_ms": 0}),
        "overlap": "skip",
        "misfire": "run_once",
        "paused": False,
        "note": "",
        "next_due": "2096-07-01 12:00:00+00",
        "is_declared": True,
    }
    return _inserted(connection, "scheduling_scheduledtask", given | columns)


def run_of(connection: psycopg.Connection[Any], task: int, **columns: Any) -> int:
    """A run of a task that succeeded; its id."""
    given: dict[str, Any] = {
        "task_id": task,
        "due_at": "2026-01-01 13:00:00+00",
        "trigger": "schedule",
        "function": "report",
        "state": "succeeded",
        "is_exclusive": True,
        "fired_by": "",
        "next_at": "2026-01-01 13:00:00+00",
        "started_at": "2026-01-01 13:00:00.010+00",
        "ended_at": "2026-01-01 13:00:01.500+00",
        "attempts": 1,
        "losses": 0,
        "process": "host:7",
        "error": "",
        "called_by": "",
    }
    return _inserted(connection, "scheduling_run", given | columns)


def _inserted(connection: psycopg.Connection[Any], table: str, columns: dict[str, Any]) -> int:
    statement = psycopg.sql.SQL("insert into {} ({}) values ({}) returning id").format(
        psycopg.sql.Identifier(table),
        psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, columns)),
        psycopg.sql.SQL(", ").join(map(psycopg.sql.Placeholder, columns)),
    )
    row = connection.execute(statement, columns).fetchone()
    assert row is not None
    return int(row[0])
