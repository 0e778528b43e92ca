"""`manage.py tasks`."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import connections

from brokers.models import AuditEntry
from scheduling import runs, scheduled
from scheduling.errors import TaskNotFound
from scheduling.tasks import control
from tests.integration.scheduling.ticking import Database, declaring
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def database() -> Iterator[Database]:
    found = Database()
    yield found
    found.own.close()


@pytest.fixture
def daily(monkeypatch: pytest.MonkeyPatch) -> str:
    name = unique("daily")
    with declaring(monkeypatch):
        scheduled(cron="0 0 8 * * *", zone="America/New_York", name=name, lock="reports", timeout="PT5M")(lambda: None)
    return name


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("tasks", *arguments, stdout=output)
    return output.getvalue()


def test_tasks_are_listed_with_their_schedules(daily: str) -> None:
    line = next(line for line in run().splitlines() if daily in line)
    assert "08:00" in line
    assert " active " in line
    rows = {row["name"]: row for row in map(json.loads, run("list", "--json").splitlines())}
    assert rows[daily]["spec"] == {"cron": "0 0 8 * * *", "zone": "America/New_York"}
    assert (rows[daily]["last_run"], rows[daily]["paused"]) == (None, False)


def test_a_task_is_shown_with_its_latest_runs(daily: str, database: Database) -> None:
    assert "It has not run yet" in run("show", daily)
    number = json.loads(run("run", daily, "--json"))["id"]
    attempt = database.claimed(number)
    runs.finish(database.own, attempt, runs.FAILED, error="Traceback\nLookupError: \x1b[31mno such flight")
    shown = run("show", daily)
    assert "Lock        reports\n" in shown
    assert "Timeout     5min\n" in shown
    assert "LookupError: \\x1b[31mno such flight" in shown
    described = json.loads(run("show", daily, "--json"))
    assert len(described["upcoming"]) == 5
    assert [(each["id"], each["state"], each["requested_by"]) for each in described["last_runs"]] == [
        (number, "failed", "operator")
    ]


@pytest.mark.parametrize(("state", "status"), [(runs.SUCCEEDED, 0), (runs.FAILED, 1)])
def test_a_run_is_waited_for(daily: str, database: Database, state: str, status: int) -> None:
    def work() -> None:
        until = time.monotonic() + 20
        while (last := control.get(daily).last_run) is None:
            assert time.monotonic() < until
        runs.finish(database.own, database.claimed(last.id), state, result={"rows": 3}, error="")
        connections.close_all()

    worker = threading.Thread(target=work)
    worker.start()
    output = io.StringIO()
    if status:
        with pytest.raises(SystemExit) as ended:
            call_command("tasks", "run", daily, "--wait", "--json", stdout=output)
        assert ended.value.code == status
    else:
        call_command("tasks", "run", daily, "--wait", "--json", stdout=output)
    worker.join()
    told = json.loads(output.getvalue())
    assert (told["state"], told["result"]) == (state, {"rows": 3})


def test_a_run_that_does_not_end_in_time_is_told_so(daily: str) -> None:
    output = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("tasks", "run", daily, "--wait", "--timeout", "0", stdout=output)
    assert "has not ended yet: ready" in output.getvalue()


def test_a_task_is_paused_and_resumed_and_that_is_recorded(daily: str) -> None:
    assert run("pause", daily, "--note", "until monday") == f"task {daily} is paused\n"
    assert run("pause", daily, "--note", "until monday") == f"task {daily} is paused already\n"
    assert "paused (until monday)" in run("show", daily)
    assert json.loads(run("resume", daily, "--json")) == {"name": daily, "paused": False, "changed": True}
    assert run("resume", daily) == f"task {daily} is not paused\n"
    entries = AuditEntry.objects.filter(resource=daily).order_by("id")
    assert [(entry.surface, entry.operation) for entry in entries] == [("command", "pause"), ("command", "resume")]


def test_a_task_that_never_was_cannot_run() -> None:
    for arguments in (["show"], ["run"], ["pause"], ["resume"]):
        with pytest.raises(TaskNotFound):
            run(*arguments, unique("never"))
