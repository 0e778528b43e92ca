"""With a hundred thousand runs each statement of workers and beats touches a few pages: none scans the table."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from brokers.database import conninfo
from scheduling import runs
from scheduling.durable import store

pytestmark = pytest.mark.django_db(transaction=True)

RUNS = 100_000
FEW = 400
"""Pages; the table has some thousands."""


@pytest.fixture
def conn() -> Iterator[psycopg.Connection[Any]]:
    """A transaction in which there are many ended runs, and few others; rolled back."""
    with psycopg.connect(conninfo()) as found:
        found.execute(
            """insert into scheduling_run (task_id, due_at, trigger, function, arguments, state, is_exclusive, fired_by,
                                           next_at, attempts, losses, process, error, called_by, ended_at, began_at,
                                           token, lease_until, rung_at)
               select null, now(), 'call', 'f' || n %% 10, '[[1], {}]',
                      case when n %% 1000 = 0 then 'ready' when n %% 1000 = 1 then 'running'
                           when n %% 1000 = 2 then 'dead' else 'succeeded' end,
                      false, '', now() - interval '1 s', 1, 0, '', repeat('x', 100), '',
                      case when n %% 1000 > 1 then now() - n * interval '40 s' end, now(),
                      case when n %% 1000 = 1 then gen_random_uuid() end,
                      case when n %% 1000 = 1 then now() - interval '1 s' end, null
               from generate_series(1, %s) n""",
            [RUNS],
        )
        found.execute(
            """insert into scheduling_runattempt
                      (run_id, number, started_at, error, exception_class, stacktrace, frames, worker)
               select id, 1, now(), '', '', '', '[]', '' from scheduling_run where id % 10 = 0"""
        )
        found.execute("analyze scheduling_run, scheduling_runattempt")
        yield found
        found.rollback()


def pages(conn: psycopg.Connection[Any], statement: Any, parameters: Any) -> int:
    """Pages that a statement looks at, as PostgreSQL counts them."""
    explained = conn.execute(b"explain (analyze, buffers, format json) " + statement.encode(), parameters).fetchone()
    assert explained is not None
    found = explained[0] if isinstance(explained[0], list) else json.loads(explained[0])
    plan = found[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def test_no_statement_of_a_run_looks_at_the_others(conn: psycopg.Connection[Any]) -> None:
    row = conn.execute("select min(id) from scheduling_run where state = 'running'").fetchone()
    ready = conn.execute("select min(id) from scheduling_run where state = 'ready'").fetchone()
    assert row is not None
    assert ready is not None
    own = {"id": row[0], "token": uuid.uuid4()}
    failed = {"error": "", "message": "", "class": "", "stacktrace": "", "frames": "[]", "delay_ms": 1, "kept": 50}
    again = {"limit": 100, "most": 3, "pause": 1.0, "kept": 50}
    old = {"days": 30, "limit": 100}
    everything = {"function": None, "state": None, "before": 2**62, "limit": 50}
    touched = {
        "claim": pages(conn, runs.SQL.claim, {"id": ready[0], "token": uuid.uuid4(), "process": "", "lease": 15.0}),
        "extend": pages(conn, runs.SQL.extend, {"lease": 15.0, "tokens": [own["token"]], "ids": [own["id"]]}),
        "retry": pages(conn, runs.SQL.retry, own | failed),
        "poison": pages(conn, runs.SQL.poison, {"limit": 100, "most": 3}),
        "lock_attempt": pages(conn, store.SQL.lock_attempt, own | {"lapsed": False}),
        "take_attempts": pages(conn, store.SQL.take_attempts, (10,)),
        "call": pages(conn, store.SQL.call, (own["id"],)),
        "calls": pages(conn, store.SQL.calls, everything),
        "calls of a function": pages(conn, store.SQL.calls, everything | {"function": "f3"}),
        "dead calls": pages(conn, store.SQL.calls, everything | {"state": "dead"}),
        "unrung": pages(conn, runs.SQL.unrung, {"patience": 10.0, "limit": 500}),
    }
    assert {name: count for name, count in touched.items() if count > FEW} == {}
    # These change a hundred rows each, with all their indexes.
    changed = {
        "take_back": pages(conn, runs.SQL.take_back, again),
        "purge": pages(conn, runs.SQL.purge, old),
    }
    assert {name: count for name, count in changed.items() if count > 60 * 100} == {}
