"""Durable background work on a whole server: its worker is killed, another is stopped, and what fails is replayed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.server import fresh_database, running

VARIABLES = {
    "WAYSTATION_APPS": "tests.acceptance.durable_work",
    "WAYSTATION_TASK_PROCESSES": "3",
    "WAYSTATION_LISTENER_PROCESSES": "1",
}
AGAIN_SECONDS = 20.0
CALLS = """
import json
from django.db import transaction
from tests.acceptance.durable_work.messaging import export, ship
with transaction.atomic():
    calls = {"killed": export("killed").id, "stopped": export("stopped").id, "failing": ship(7, to="Oslo").id}
try:
    with transaction.atomic():
        export("rolled back")
        raise LookupError
except LookupError:
    print(json.dumps(calls))
"""


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


@pytest.mark.slow
def test_work_survives_its_workers_and_what_fails_is_mended_by_a_replay() -> None:
    with fresh_database() as url, running(url, **VARIABLES) as server:  # noqa: SIM117 - the server is there first
        with psycopg.connect(url, autocommit=True) as database, server.client() as api:
            database.execute("create table noted (what text, name text, attempt int, pid int)")
            calls = json.loads(server.manage("shell", "--no-imports", "-c", CALLS).stdout.splitlines()[-1])

            def attempts(name: str) -> list[tuple[int, int]]:
                statement = "select attempt, pid from noted where what = 'began' and name = %s order by attempt"
                return database.execute(statement, [name]).fetchall()

            def effects(name: str) -> list[int]:
                statement = "select attempt from noted where what = 'effect' and name = %s order by attempt"
                return [attempt for (attempt,) in database.execute(statement, [name])]

            def run(name: str) -> tuple[str, Any, int, int]:
                statement = "select state, result, attempts, losses from scheduling_run where id = %s"
                row = database.execute(statement, [calls[name]]).fetchone()
                assert row is not None
                return row

            until(lambda: attempts("killed") and attempts("stopped"), 30, f"nothing began\n{server.log.read_text()}")
            ((_, killed),), ((_, stopped),) = attempts("killed"), attempts("stopped")
            os.kill(stopped, signal.SIGSTOP)
            os.kill(killed, signal.SIGKILL)
            died = time.monotonic()

            # While the leases lapse: the call that fails is a dead letter, which is edited and replayed.
            until(lambda: run("failing")[0] == "dead", 15, "the failing call was not given up")
            (letter,) = api.get("/api/v1/dead-letters", params={"source": "orders.ship"}).json()["items"]
            assert (letter["source_kind"], letter["exception"]["class"]) == ("task", "builtins.LookupError")
            detail = api.get(f"/api/v1/dead-letters/{letter['id']}").json()
            assert detail["value"] == {"args": [7], "kwargs": {"to": "Oslo"}}
            assert len(detail["attempts"]) == 2
            assert "there is no order 7" in detail["exception"]["stacktrace"]
            body = {
                "selection": {"ids": [letter["id"]]},
                "edit": {"value": {"args": [700], "kwargs": {"to": "Bergen"}}},
                "reason": "the order has another number",
            }
            api.post("/api/v1/replays", json=body).raise_for_status()
            until(
                lambda: api.get(f"/api/v1/dead-letters/{letter['id']}").json()["state"] == "replayed",
                15,
                "the dead letter was not replayed",
            )
            assert effects("700 to Bergen") == [1]

            left = died + AGAIN_SECONDS - time.monotonic()
            until(lambda: len(attempts("killed")) == 2, left, "the killed worker's call was not handed out again")
            until(lambda: run("killed")[0] == "succeeded", 5, "the call did not end")
            assert run("killed") == ("succeeded", {"attempt": 2}, 2, 1)
            assert effects("killed") == [2]

            # The stopped worker wakes up after another has done its call: what it answers is dropped.
            until(lambda: run("stopped")[0] == "succeeded", 10, "the stopped worker's call was not handed out again")
            os.kill(stopped, signal.SIGCONT)
            database.execute("insert into noted (what, name) values ('go on', 'stopped')")
            until(lambda: len(effects("stopped")) == 2, 10, "the stopped worker did not wake up")
            until(lambda: "taken from this process has ended" in server.log.read_text(), 5, "it has kept its result")
            assert run("stopped") == ("succeeded", {"attempt": 2}, 2, 1)
            assert attempts("rolled back") == []
