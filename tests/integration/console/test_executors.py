"""The Executors screen: what it says of pools, processes and durable calls, and who may look."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from brokers.models import Grant
from scheduling.executors.definition import Figures
from scheduling.models import Run

Staff = Callable[..., Client]


def figures(name: str = "mailer", **given: Any) -> Figures:
    whole: dict[str, Any] = {
        "core": 2,
        "max": 4,
        "queue_capacity": 10,
        "rejection": "abort",
        "threads": 2,
        "active": 0,
        "queued": 0,
        "waiting": 0,
        "completed": 0,
        "failed": 0,
        "rejected": 0,
    }
    return Figures(name=name, **(whole | given))


def a_report(*executors: Figures, pid: int = 4211, kind: str = "web", age: float = 0.0) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into scheduling_executorreport (id, host, pid, kind, at, executors)"
            " values (%s, 'app-7', %s, %s, clock_timestamp() - make_interval(secs => %s), %s)",
            (uuid.uuid4(), pid, kind, age, json.dumps([asdict(each) for each in executors])),
        )


def a_call(state: str, **given: Any) -> Run:
    at = datetime.now(UTC) - timedelta(minutes=5)
    has_ended = state in ("succeeded", "dead")
    fields: dict[str, Any] = {
        "due_at": at,
        "trigger": "call",
        "function": "flights.export",
        "attempts": 0 if state == "ready" else 1,
        "started_at": None if state == "ready" else at,
        "ended_at": at + timedelta(milliseconds=2500) if has_ended else None,
        "called_by": "maria",
    }
    return Run.objects.create(state=state, **(fields | given))


def row_of(page: str, identity: str) -> str:
    begin = page.index(f'id="{identity}"')
    return page[begin : page.index("</tr>", begin)]


def test_unused_executors_are_listed_with_their_sizes(admin: Client) -> None:
    page = admin.get("/admin/executors/").content.decode()
    row = row_of(page, "executor-default")
    assert "Unused" in row
    assert "8 threads, queue 1,000" in row
    assert "No live process has used an executor" in page
    assert "No durable function was called" in page


def test_figures_are_summed_over_processes_and_shown_for_each(admin: Client) -> None:
    a_report(figures(active=1, completed=40, failed=3, seconds=20.0), pid=1)
    a_report(figures(active=2, queued=5, completed=60, rejected=7, seconds=30.0), pid=2, kind="task worker", age=11)
    page = admin.get("/admin/executors/").content.decode()
    row = row_of(page, "executor-mailer")
    for text in ("Queueing", "3 of 8", "5 of 20", ">100<", "500 ms", ">3<", ">7<", "4 threads, queue 10"):
        assert text in row
    assert "2 live" in page
    assert "Healthy" in row_of(page, "process-app-7-1")
    assert "Late" in row_of(page, "process-app-7-2")
    assert "task worker, pid 2" in page
    assert "1 of 4" in row_of(page, "process-app-7-1-mailer")
    assert "5 of 10" in row_of(page, "process-app-7-2-mailer")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, "Idle"),
        ({"active": 1}, "Working"),
        ({"active": 2, "queued": 1}, "Queueing"),
        ({"active": 4, "queued": 10}, "Full"),
        ({"active": 4, "queue_capacity": 0}, "Full"),
    ],
)
def test_an_executor_says_how_it_stands(given: dict[str, Any], word: str, admin: Client) -> None:
    a_report(figures(**given))
    row = row_of(admin.get("/admin/executors/").content.decode(), "executor-mailer")
    assert f"{word}</span>" in row


def test_durable_calls_are_listed_by_what_became_of_them(admin: Client) -> None:
    waits, runs = a_call("ready", attempts=2, error="KeyError: <b>"), a_call("running")
    done, dead = a_call("succeeded"), a_call("dead", dead_letter_id=77, error="Traceback\nValueError: no")
    everything = {waits.pk, runs.pk, done.pk, dead.pk}
    for query, expected in (("", everything), ("calls=open", {waits.pk, runs.pk}), ("calls=dead", {dead.pk})):
        found = admin.get(f"/admin/executors/?{query}")
        assert {row.call.id for row in found.context["calls"]} == expected
    page = admin.get("/admin/executors/").content.decode()
    for text in (
        "flights.export",
        "2.5 s",
        "maria",
        "ValueError: no",
        "/admin/dead-letters/77/",
        "KeyError: &lt;b&gt;",
    ):
        assert text in page
    assert "not ended, 1 running" in page


def test_a_long_list_of_calls_has_pages(admin: Client) -> None:
    calls = [a_call("succeeded").pk for _ in range(45)]
    address, seen = "/admin/executors/", []
    while address:
        page = admin.get(address)
        seen += [row.call.id for row in page.context["calls"]]
        following = page.context["following"]
        address = f"/admin/executors/?before={following}" if following else ""
    assert seen == calls[::-1]


def test_who_may_look(staff: Staff) -> None:
    client = staff()
    assert client.get("/admin/executors/").status_code == 403
    user = client.session["_auth_user_id"]
    Grant.objects.create(user_id=user, operation="describe", resource_type="server", name="", match="literal")
    assert client.get("/admin/executors/").status_code == 200


def test_processes_of_all_servers_are_listed_with_the_beat_that_leads(admin: Client) -> None:
    rows = [("web", 1, 0), ("beat", 2, 1), ("beat", 3, 2), ("listener", 4, 12), ("task worker", 5, 31)]
    with connection.cursor() as cursor:
        for kind, pid, silent in rows:
            cursor.execute(
                "insert into brokers_process (id, kind, host, pid, beat_at)"
                " values (%s, %s, 'app-7', %s, clock_timestamp() - make_interval(secs => %s))",
                (uuid.uuid4(), kind, pid, silent),
            )
        cursor.execute(
            "insert into shedlock (name, lock_until, locked_at, locked_by) values ('waystation:beat',"
            " timezone('utc', clock_timestamp()) + interval '4 s', timezone('utc', clock_timestamp()), 'app-7:3:abc')"
        )
    living = admin.get("/admin/executors/").context["living"]
    assert [(row.process.kind, row.process.pid, row.health.text, row.leads) for row in living] == [
        ("beat", 2, "Healthy", False),
        ("beat", 3, "Healthy", True),
        ("listener", 4, "Late", False),
        ("task worker", 5, "Lost", False),
        ("web", 1, "Healthy", False),
    ]
