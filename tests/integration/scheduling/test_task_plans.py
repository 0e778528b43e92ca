"""What the statements of tasks, runs and locks cost among 5,000 tasks and 300,000 runs: as much as among a few.

Pages are counted, under generic plans: beats and workers run them several times a second, on tables that may grow by a
million rows a day.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from brokers.database import conninfo
from scheduling import runs
from scheduling.locks import store as locks
from scheduling.tasks import store

pytestmark = pytest.mark.django_db(transaction=True)

TASKS, RUNS, LOCKS = 5_000, 300_000, 5_000
QUEUED = 4_000
"""Runs of one task that wait for each other, behind one that is running."""
RUNNING = 400
"""Of them a quarter has lapsed."""

MAKE_TASKS = """
insert into scheduling_scheduledtask (name, source, kind, spec, options, overlap, misfire, is_declared, paused, note,
                                      next_due)
select 'task-' || n, case when n %% 10 = 0 then 'operator' else 'code' end,
       case when n %% 5 = 0 then 'fixed_delay' else 'fixed_rate' end,
       '{"period_ms": 60000, "delay_ms": 60000, "initial_delay_ms": 0}', '{}',
       case when n %% 3 = 0 then 'allow' else 'skip' end,
       'run_once', true, n %% 50 = 0, '',
       case when n %% 20 = 0 then null else clock_timestamp() + (n - 100) * interval '20 ms' end
from generate_series(1, %(tasks)s) n
"""
MAKE_RUNS = """
insert into scheduling_run (task_id, due_at, trigger, function, state, is_exclusive, fired_by, next_at, ended_at, error,
                            attempts, losses, process, called_by, token, lease_until, rung_at, arguments, began_at)
select x.task, now() - n * interval '1 s', 'schedule', 'task-' || n %% 5000, x.state,
       x.state = 'ready' and x.task is not null, '', now() - n * interval '1 ms',
       case when x.state = 'succeeded' then now() - n * interval '4 s' end, '', 0, 0, 'host:' || n %% 8, '',
       case when x.state = 'running' then gen_random_uuid() end,
       case when x.state = 'running' then now() + interval '1 min' * case when n %% 4 = 0 then -1 else 1 end end,
       case when x.state = 'ready' and n %% 2 = 0 then now() end,
       case when x.task is null then '[[], {}]'::jsonb end, now()
from generate_series(1, %(runs)s) n,
     lateral (select case when n <= %(queued)s then 'ready' when n <= %(queued)s + %(running)s then 'running'
                          else 'succeeded' end as state,
                     case when n <= %(queued)s then %(first)s + 1
                          when n %% 10 = 0 then null
                          else %(first)s + 2 + n %% (%(tasks)s - 3) end as task) x
"""


class Large:
    """The tables, in a transaction that is rolled back."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn
        conn.execute(MAKE_TASKS, {"tasks": TASKS})
        self.first: int = self.value("select min(id) from scheduling_scheduledtask") - 1
        sizes = {"runs": RUNS, "queued": QUEUED, "running": RUNNING, "first": self.first, "tasks": TASKS}
        conn.execute(MAKE_RUNS, sizes)
        conn.execute(
            "insert into shedlock select 'lock-' || n, now() + interval '1 min', now(), 'host:' || n"
            " from generate_series(1, %s) n",
            [LOCKS],
        )
        conn.execute("insert into shedlock values (%s, now() + interval '1 day', now(), 'me')", [store.BEAT_LOCK])

    def value(self, statement: LiteralString, *parameters: object) -> Any:
        """The first column of the only row."""
        [(found, *_)] = self.conn.execute(statement, parameters).fetchall()
        return found

    def pages(self, statement: LiteralString, parameters: Any) -> int:
        """Pages that a statement touches under its generic plan; it changes nothing."""
        explained: Any = f"explain (analyze, buffers, format json) {statement}"
        with self.conn.transaction(force_rollback=True):
            [[plan]] = self.conn.execute(explained, parameters, prepare=True).fetchall()
        top = (plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]
        return int(top["Shared Hit Blocks"]) + int(top["Shared Read Blocks"])


def statements(large: Large) -> Iterator[tuple[str, LiteralString, Any, int]]:
    """Each statement, its parameters, and how many pages it may touch."""
    now: datetime = large.value("select clock_timestamp()")
    queued = large.first + 1
    [(running, token)] = large.conn.execute(
        "select id, token from scheduling_run where state = 'running' and lease_until > now() limit 1"
    ).fetchall()
    oldest, newest = large.conn.execute(
        "select min(id), max(id) from scheduling_run where task_id = %s and state = 'ready'", [queued]
    ).fetchall()[0]
    lease = {"token": uuid.uuid4(), "process": "host:1", "lease": 15.0}
    ending = {"id": running, "token": token, "error": ""}
    yield "claim the first of a queue", runs.SQL.claim, {"id": oldest, **lease}, 100
    yield "claim the last of a queue", runs.SQL.claim, {"id": newest, **lease}, 40
    yield "extend", runs.SQL.extend, {"tokens": [token], "ids": [running], "lease": 15.0}, 40
    yield "finish", runs.SQL.finish, {**ending, "state": "succeeded", "result": None}, 60
    again = {"message": "", "class": "", "stacktrace": "", "frames": "[]", "delay_ms": 10, "kept": 50}
    yield "retry", runs.SQL.retry, {**ending, **again}, 80
    swept = {"limit": 500, "most": 3, "pause": 10.0, "kept": 50}
    yield "lose", runs.SQL.lose, swept, 20 * RUNNING
    yield "take back", runs.SQL.take_back, swept, 10 * RUNNING
    yield "poison", runs.SQL.poison, swept, 40
    yield "unrung", runs.SQL.unrung, {"patience": 10.0, "limit": 500}, 4 * QUEUED
    yield "rung", runs.SQL.rung, (list(range(oldest, oldest + 10)),), 400
    yield "next of a task", runs.SQL.next_of_task, (queued,), 200
    yield "run now", runs.SQL.run_now, {"name": "task-7", "who": "ada"}, 60
    yield "purge nothing", runs.SQL.purge, {"days": 30, "limit": 5000}, 20
    yield "purge", runs.SQL.purge, {"days": 1, "limit": 1000}, 12_000

    later = now + timedelta(seconds=1)
    [*due] = large.conn.execute(
        "select id, next_due from scheduling_scheduledtask where next_due <= %s and not paused limit 50", [later]
    ).fetchall()
    firing = {
        "lock": store.BEAT_LOCK,
        "me": "me",
        "tasks": [task for task, _ in due],
        "due": [at for _, at in due],
        "later": [at + timedelta(minutes=1) for _, at in due],
        "start": [at for _, at in due],
        "missed": [False for _ in due],
    }
    assert len(due) == 50
    yield "due", store.SQL.due, (later, 2000), 60
    yield "fire", store.SQL.fire, firing, 50 * 60
    yield "revive", store.SQL.revive, (), 4 * TASKS
    names = [f"task-{n}" for n in range(100)]
    declared = {
        "source": "code",
        "names": names,
        "periodic_tasks": [None for _ in names],
        "kinds": ["fixed_rate" for _ in names],
        "specs": ['{"period_ms": 1}' for _ in names],
        "options": ["{}" for _ in names],
        "overlaps": ["skip" for _ in names],
        "misfires": ["skip" for _ in names],
        "are_declared": [True for _ in names],
        "first_dues": [now for _ in names],
    }
    yield "declare", store.SQL.declare, declared, 100 * 30
    yield "withdraw", store.SQL.withdraw, ("code", [f"task-{n}" for n in range(TASKS + 1)]), 600
    yield "shelve", store.SQL.shelve, {"id": queued, "why": "?"}, 60
    yield "pages", store.SQL.page, {"after": "task-2", "name": None, "limit": 100, "error": 100}, 1200
    yield "one task", store.SQL.page, {"after": "", "name": "task-7", "limit": 1, "error": 100}, 40
    yield "lock", store.SQL.lock_task, ("task-7",), 40
    yield "pause", store.SQL.set_paused, {"name": "task-7", "paused": True, "note": "", "next_due": now}, 60
    skipped = {"name": "task-8", "due": now, "later": now, "why": "", "who": ""}
    yield "skip", store.SQL.skip_next, skipped, 60
    yield "history", store.SQL.history, {"name": "task-2", "before": 2**62, "limit": 50, "error": 100}, 300
    yield "a run", store.SQL.run, {"name": "task-2", "run": running}, 40
    yield "an operators call", store.SQL.operators_call, (queued,), 40

    lock = {"name": "lock-77", "locked_by": "host:77", "at_most": 10, "at_least": 0}
    yield "acquire", locks.SQL.acquire, lock, 30
    yield "held", locks.SQL.held, lock, 30
    yield "extend a lock", locks.SQL.extend, lock, 30
    yield "unlock", locks.SQL.unlock, lock, 30
    yield "fence", locks.SQL.fence, ("lock-77", "host:77"), 30
    yield "look", locks.SQL.look, ("lock-77",), 30
    yield "release", locks.SQL.release, ("me", "lock-77"), 30


@pytest.mark.slow
def test_no_statement_costs_more_among_many_rows() -> None:
    with psycopg.connect(conninfo()) as conn:
        large = Large(conn)
        conn.execute("analyze scheduling_scheduledtask, scheduling_run, scheduling_runattempt, shedlock")
        conn.execute("set plan_cache_mode = force_generic_plan")
        costs = [(what, large.pages(text, values), most) for what, text, values, most in statements(large)]
        conn.rollback()
    assert not [f"{what}: {pages} pages" for what, pages, most in costs if pages > most]
