"""Two servers over one database, and the leading beat is killed: nothing runs twice, no due time is missed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import psutil
import psycopg

from tests.server import Server, fresh_database, running

VARIABLES = {
    "WAYSTATION_APPS": "tests.acceptance.ticking",
    "WAYSTATION_TASK_PROCESSES": "1",
    "WAYSTATION_LISTENER_PROCESSES": "0",
}
TAKE_OVER_SECONDS = 6.0
BEAT_LOCK = "waystation:beat"


def until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def beats(*servers: Server) -> dict[int, psutil.Process]:
    """The beats of servers, by process id."""
    found = [child for each in servers for child in psutil.Process(each.process.pid).children()]
    return {child.pid: child for child in found if "beat" in child.cmdline()}


def test_another_beat_takes_over_when_the_leader_is_killed() -> None:
    with fresh_database() as url, running(url, **VARIABLES) as one, running(url, **VARIABLES) as other:
        with psycopg.connect(url, autocommit=True) as database:

            def count(name: str) -> int:
                row = database.execute(
                    """select count(*) from scheduling_run r join scheduling_scheduledtask t on t.id = r.task_id
                       where t.name = %s and r.state = 'succeeded'""",
                    [name],
                ).fetchone()
                assert row is not None
                return int(row[0])

            def leader() -> int:
                row = database.execute("select locked_by from shedlock where name = %s", [BEAT_LOCK]).fetchone()
                assert row is not None
                return int(row[0].split(":")[-2])

            until(lambda: len(beats(one, other)) == 2 and count("often") >= 3, 30, "nothing runs")
            killed, before = leader(), count("often")
            assert killed in beats(one, other)
            os.kill(killed, signal.SIGKILL)
            died = time.monotonic()
            until(lambda: leader() != killed, TAKE_OVER_SECONDS, "no other beat leads")
            until(lambda: count("often") >= before + 3, 15, "the new leader fires nothing")
            assert time.monotonic() - died < 15
            until(lambda: len(beats(one, other)) == 2, 15, "the killed beat was not started again")

            rows = database.execute(
                """select t.name, r.due_at, r.attempts, r.state
                   from scheduling_run r join scheduling_scheduledtask t on t.id = r.task_id order by r.due_at"""
            ).fetchall()
            effects = database.execute("select count(*) from scheduling_run where attempts > 1").fetchone()
        assert effects == (0,)
        assert [state for name, _, _, state in rows if name == "one-time"] == ["succeeded"]
        dues = [due for name, due, _, _ in rows if name == "often"]
        gaps = [later - earlier for earlier, later in pairwise(dues)]
        assert all(gap >= timedelta(seconds=0.5) for gap in gaps), "a due time was fired twice"
        assert all(gap % timedelta(seconds=0.5) == timedelta() for gap in gaps), "the rate drifts"
        assert max(gaps) < timedelta(seconds=TAKE_OVER_SECONDS + 1), "due times between were made good by one run"
