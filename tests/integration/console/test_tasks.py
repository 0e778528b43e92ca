"""The Scheduled tasks screens: what they say of tasks and runs, running one now, pausing, and who may."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from brokers.models import AuditEntry, Grant
from scheduling import scheduler_lock
from scheduling.models import Run, ScheduledTask
from scheduling.tasks import board

Staff = Callable[..., Client]

HOSTILE = "<script>alert(1)</script>\u202e/~2F.."
TRACE = """Traceback (most recent call last):
  File "/srv/app/.venv/lib/python3.11/site-packages/lib/call.py", line 3, in call
    return function()
  File "/srv/app/flights/messaging.py", line 12, in report
    seat = seats[number]
builtins.KeyError: 'seat <b>12</b>'"""
SKIPPED_BY = "the lock daily-report was held by another"


def a_task(name: str = "daily-report", **fields: Any) -> ScheduledTask:
    given: dict[str, Any] = {
        "source": "code",
        "kind": "cron",
        "spec": {"cron": "0 0 8 * * *", "zone": "America/New_York"},
        "options": {"timeout_ms": 600_000, "jitter_ms": 0},
        "overlap": "skip",
        "misfire": "run_once",
        "next_due": datetime.now(UTC) + timedelta(hours=2),
    }
    return ScheduledTask.objects.create(name=name, **(given | fields))


def a_run(task: ScheduledTask, state: str = "succeeded", number: int = 0, **fields: Any) -> Run:
    """A run that was due some minutes ago, began 40 ms late and took 1.5 s."""
    due = datetime.now(UTC) - timedelta(minutes=10) + timedelta(seconds=number)
    has_begun, has_ended = state not in ("ready", "skipped"), state not in ("ready", "running")
    given: dict[str, Any] = {
        "due_at": due,
        "trigger": "schedule",
        "function": task.name,
        "attempts": int(has_begun),
        "process": "app-7:4211" if has_begun else "",
        "started_at": due + timedelta(milliseconds=40) if has_begun else None,
        "ended_at": due + timedelta(milliseconds=1540) if has_ended else None,
        "lease_until": datetime.now(UTC) + timedelta(seconds=9) if state == "running" else None,
    }
    return Run.objects.create(task=task, state=state, **(given | fields))


def grant(client: Client, operation: str, name: str, match: str = "literal") -> None:
    user = client.session["_auth_user_id"]
    Grant.objects.create(user_id=user, operation=operation, resource_type="schedule", name=name, match=match)


def body(page: str) -> str:
    return page[page.index("<tbody>") : page.rindex("</tbody>")]


def url(name: str, view: str = "task") -> str:
    """As the console writes it."""
    return reverse(f"admin:{view}", args=[name])


def test_without_a_task_it_says_how_to_declare_one(admin: Client) -> None:
    page = admin.get("/admin/tasks/").content.decode()
    assert "Nothing is scheduled" in page
    assert "@scheduled(" in page
    assert "/admin/django_celery_beat/periodictask/add/" in page


def test_a_task_says_how_it_stands_and_how_it_fared(admin: Client) -> None:
    task = a_task(options={"lock": {"name": "report-lock", "at_most_for_ms": 1000, "at_least_for_ms": 0}})
    for number in range(3):
        a_run(task, number=number)
    a_run(task, "skipped", 3, error=SKIPPED_BY)
    a_run(task, "failed", 4, error=TRACE)
    row = body(admin.get("/admin/tasks/").content.decode())
    for text in ("Active", "Every day at 08:00 America/New_York", "0 0 8 * * *", "report-lock", "in 1 h 59 min"):
        assert text in row
    for text in ("Failed</span>", "1.5 s", "The last 4 runs took 1.5 s", '<strong class="bad">1</strong>'):
        assert text in row


@pytest.mark.parametrize(
    ("fields", "run", "words"),
    [
        ({}, None, ["Active"]),
        ({}, "running", ["Running"]),
        ({"paused": True}, None, ["Paused"]),
        ({"paused": True}, "running", ["Running", "Paused"]),
        ({"is_declared": False}, None, ["Withdrawn"]),
        ({"is_declared": False, "source": "operator", "periodic_task_id": 7}, None, ["Disabled"]),
        ({"kind": "once", "spec": {"delay_ms": 5}, "next_due": None}, "succeeded", ["Over"]),
    ],
)
def test_the_states_of_a_task(fields: dict[str, Any], run: str | None, words: list[str], admin: Client) -> None:
    task = a_task(**fields)
    if run is not None:
        a_run(task, run)
    row = body(admin.get("/admin/tasks/").content.decode())
    cell = row[row.index('data-label="State"') : row.index('data-label="Next due"')]
    every = ("Active", "Running", "Paused", "Withdrawn", "Disabled", "Over")
    assert [word for word in every if f"{word}</span>" in cell] == [word for word in every if word in words]
    assert admin.get("/admin/tasks/daily-report/").status_code == 200


def test_filters_narrow_the_list(admin: Client) -> None:
    a_run(a_task("alpha.rollup"), "running")
    a_run(a_task("beta"), "failed", error="no")
    a_task("gamma", paused=True)
    a_task("delta", is_declared=False)
    a_task("epsilon", source="operator")
    names = {"alpha.rollup", "beta", "gamma", "delta", "epsilon"}
    for query, expected in (
        ("", names),
        ("q=ROLL", {"alpha.rollup"}),
        ("only=running", {"alpha.rollup"}),
        ("only=failing", {"beta"}),
        ("only=paused", {"gamma"}),
        ("only=withdrawn", {"delta"}),
        ("only=operator", {"epsilon"}),
        ("only=active", {"alpha.rollup", "beta", "epsilon"}),
    ):
        rows = body(admin.get(f"/admin/tasks/?{query}").content.decode())
        assert {name for name in names if f'/admin/tasks/{name}/"' in rows} == expected, query
    page = admin.get("/admin/tasks/?q=zeta").content.decode()
    assert "No task matches" in page
    assert "Clear filter" in page


def test_a_long_list_has_pages_and_few_queries(admin: Client) -> None:
    for number in range(120):
        a_task(f"task-{number:03d}")
    address, seen, pages = "/admin/tasks/", 0, 0
    while address:
        with CaptureQueriesContext(connection) as queries:
            page = admin.get(address)
        assert len(queries) <= 16
        seen, pages = seen + page.content.decode().count('<tr id="task-'), pages + 1
        following = page.context["following"]
        address = f"/admin/tasks/?after={following}" if following else ""
    assert (seen, pages) == (120, 3)


def test_a_tasks_page_has_its_definition_and_next_due_times(admin: Client) -> None:
    scheduler_lock("report-lock", "PT1H").acquire()
    lock = {"name": "report-lock", "at_most_for_ms": 60_000, "at_least_for_ms": 5_000}
    a_task(options={"timeout_ms": 600_000, "jitter_ms": 30_000, "lock": lock}, overlap="queue", misfire="skip")
    page = admin.get("/admin/tasks/daily-report/").content.decode()
    for text in (
        "declared in code",
        "A due time waits until the run before has ended",
        "are not made good",
        "10 min, then a run is interrupted",
        "up to 30 s after",
        "report-lock</a>, held by",
        "for at most 1 min, at least 5 s",
        "It has not run yet",
    ):
        assert text in page
    assert page[page.index("Next due times") :].count("<tr><td>") == 5


def test_the_history_says_what_became_of_each_run(admin: Client) -> None:
    task = a_task()
    failed = a_run(task, "failed", 1, error=TRACE)
    a_run(task, "skipped", 2, error=SKIPPED_BY)
    a_run(task, "succeeded", 3, result={"flights": 812}, trigger="operator", called_by="maria")
    a_run(task, "ready", 4)
    rows = body(admin.get("/admin/tasks/daily-report/").content.decode())
    for text in ("Failed", "Skipped", "Succeeded", "Waiting", "by hand", "Asked for by maria", "40 ms", "1.5 s"):
        assert text in rows
    for text in ("builtins.KeyError: &#x27;seat &lt;b&gt;12&lt;/b&gt;&#x27;", SKIPPED_BY, "flights", "app-7:4211"):
        assert text in rows
    assert f"/admin/tasks/daily-report/runs/{failed.pk}/" in rows
    only = admin.get("/admin/tasks/daily-report/?only=skipped")
    assert [row.run.state for row in only.context["runs"]] == ["skipped"]


def test_a_long_history_has_pages(admin: Client) -> None:
    task = a_task()
    runs = [a_run(task, number=number).pk for number in range(120)]
    address, seen = "/admin/tasks/daily-report/", []
    while address:
        page = admin.get(address)
        seen += [row.run.id for row in page.context["runs"]]
        following = page.context["following"]
        address = f"/admin/tasks/daily-report/?before={following}" if following else ""
    assert seen == runs[::-1]
    assert admin.get("/admin/tasks/daily-report/?before=x").context["runs"][0].run.id == runs[-1]
    assert "no older" in admin.get("/admin/tasks/daily-report/?before=1").content.decode().lower()


def test_a_search_through_a_history_goes_so_far_at_once(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "WINDOW", 10)
    task = a_task()
    failed = a_run(task, "failed", 0, error="no").pk
    for number in range(1, 25):
        a_run(task, number=number)
    address, looks = "/admin/tasks/daily-report/?only=failed", 0
    found: list[int] = []
    while address:
        page = admin.get(address)
        looks, found = looks + 1, found + [row.run.id for row in page.context["runs"]]
        following = page.context["following"]
        assert ("Look further back" in page.content.decode()) == (following is not None)
        address = f"/admin/tasks/daily-report/?only=failed&before={following}" if following else ""
    assert (looks, found) == (3, [failed])


def test_a_history_is_read_by_its_index_whatever_the_planner_knows(transactional_db: None) -> None:
    rare, busy = a_task("rare"), a_task("busy")
    a_run(rare)
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into scheduling_run (task_id, due_at, trigger, function, state, is_exclusive, fired_by, attempts,"
            " losses, process, error, called_by, ended_at) select %s, now() - n * interval '1 second', 'schedule',"
            " 'busy', 'succeeded', false, '', 1, 0, '', '', '', now() from generate_series(1, 20000) n",
            (busy.pk,),
        )
        cursor.execute("analyze scheduling_run")
        plans = []
        for name, given in (
            ("runs", {"before": board.LATEST_DUE, "task": rare.pk, "window": 51, "states": None, "limit": 51}),
            ("window_end", {"before": board.LATEST_DUE, "task": rare.pk, "window": 5000}),
            ("cards", {"ids": [rare.pk], "latest": 100, "most_open": 1000}),
        ):
            cursor.execute(f"explain (generic_plan) {generic(getattr(board.SQL, name), given)}")
            plans.append("\n".join(row[0] for row in cursor.fetchall()))
    for plan in plans:
        assert "run_once_per_due_time" in plan
        assert "Seq Scan on scheduling_run" not in plan
        assert "scheduling_run_pkey" not in plan


def generic(statement: str, given: dict[str, Any]) -> str:
    """A statement with numbered parameters, as the server plans it for any values."""
    for number, name in enumerate(given, 1):
        statement = statement.replace(f"%({name})s", f"${number}")
    return statement


def test_a_run_has_a_page_with_its_stack_trace(admin: Client) -> None:
    task = a_task()
    run = a_run(task, "failed", error=TRACE, attempts=2, losses=1)
    page = admin.get(f"/admin/tasks/daily-report/runs/{run.pk}/").content.decode()
    for text in ("Failed", "The function raised an exception", "its schedule", "took 1.5 s", "app-7:4211"):
        assert text in page
    for text in ("1 of them lost with its worker", "As Python prints it", "seat = seats[number]"):
        assert text in page
    own = page.index('class="frame own innermost"')
    assert page.index("/srv/app/flights/messaging.py", own) - own < 200
    assert "<b>12</b>" not in page
    done = a_run(task, "succeeded", 1, result={"flights": 812, "<i>": None})
    page = admin.get(f"/admin/tasks/daily-report/runs/{done.pk}/").content.decode()
    assert "&quot;&lt;i&gt;&quot;: null" in page
    waits = a_run(task, "running", 2)
    page = admin.get(f"/admin/tasks/daily-report/runs/{waits.pk}/").content.decode()
    assert "its worker is heard of" in page
    assert 'data-live="tasks"' in page
    assert admin.get("/admin/tasks/daily-report/runs/1/").status_code == 404
    assert admin.get(f"/admin/tasks/other/runs/{done.pk}/").status_code == 404


def test_run_now_says_what_it_meets_and_asks_for_a_run(admin: Client) -> None:
    lock = {"name": "report-lock", "at_most_for_ms": 60_000, "at_least_for_ms": 0}
    task = a_task(paused=True, options={"lock": lock})
    page = admin.get("/admin/tasks/daily-report/run/").content.decode()
    for text in ("No run of it is under way", "report-lock</a>, free", "It stays paused"):
        assert text in page
    a_run(task, "running")
    held = scheduler_lock("report-lock", "PT1H").acquire()
    assert held is not None
    page = admin.get("/admin/tasks/daily-report/run/").content.decode()
    for text in ("1 run of it has not ended", "This one waits until then", "the run is skipped"):
        assert text in page
    page = admin.post("/admin/tasks/daily-report/run/", follow=True).content.decode()
    run = Run.objects.get(trigger="operator")
    assert (run.task_id, run.state, run.called_by) == (task.pk, "ready", "admin")
    assert f"Run {run.pk} was asked for" in page
    entry = AuditEntry.objects.get(resource_type="schedule")
    assert (entry.operation, entry.principal, entry.surface, entry.resource) == (
        "run",
        "admin",
        "console",
        "daily-report",
    )


def test_a_withdrawn_task_cannot_be_run(admin: Client) -> None:
    a_task(is_declared=False)
    assert "Nothing declares this task any more" in admin.get("/admin/tasks/daily-report/run/").content.decode()
    page = admin.post("/admin/tasks/daily-report/run/", follow=True).content.decode()
    assert "Nothing was changed" in page
    assert not Run.objects.exists()


def test_a_task_is_paused_with_a_note_and_resumed(admin: Client) -> None:
    task = a_task()
    page = admin.post("/admin/tasks/daily-report/pause/", {"note": "until <b>Monday</b>"}, follow=True)
    text = page.content.decode()
    assert "daily-report is paused" in text
    assert "until &lt;b&gt;Monday&lt;/b&gt;" in text
    assert "It is paused, and not due until it is resumed" in text
    admin.post("/admin/tasks/daily-report/resume/", {"next": "https://elsewhere.example/"}, follow=True)
    task.refresh_from_db()
    assert not task.paused
    operations = AuditEntry.objects.filter(resource_type="schedule").order_by("id").values_list("operation", "resource")
    assert list(operations) == [("pause", "daily-report"), ("resume", "daily-report")]
    assert admin.get("/admin/tasks/daily-report/pause/").status_code == 405


def test_the_next_due_time_is_skipped_and_only_the_one_that_was_shown(admin: Client) -> None:
    task = a_task()
    page = admin.get(url(task.name)).content.decode()
    (shown,) = re.findall(r'name="due" value="([^"]+)"', page)
    page = admin.post("/admin/tasks/daily-report/skip/", {"due": shown}, follow=True).content.decode()
    assert "is left out. The next is" in page
    due = task.next_due
    task.refresh_from_db()
    later = task.next_due
    assert due is not None
    assert later is not None
    assert due < later
    for again in (shown, "", "yesterday", "2026-01-01", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00"):
        page = admin.post("/admin/tasks/daily-report/skip/", {"due": again}, follow=True).content.decode()
        assert "Nothing was skipped" in page
    assert Run.objects.filter(task=task, state="skipped").count() == 1


def test_any_name_has_its_pages(admin: Client) -> None:
    for name in (HOSTILE, "..", "reports/nightly ~ 100 %?#", "пересадка"):
        a_run(a_task(name), "failed", error=HOSTILE)
    page = admin.get("/admin/tasks/").content.decode()
    assert "<script>alert" not in page
    assert "\u202e" not in page
    for name in (HOSTILE, "reports/nightly ~ 100 %?#", "пересадка"):
        assert escape(url(name)) in page
        found = admin.get(url(name))
        assert found.context["info"].name == name
        text = found.content.decode()
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert admin.get(url(name, "task-run-now")).status_code == 200
    assert admin.get("/admin/tasks/~2E~2E/").context["info"].name == ".."


def test_only_what_is_granted_is_seen_and_done(staff: Staff) -> None:
    a_run(a_task("payroll"))
    task = a_task("reports.daily", options={"lock": {"name": "secret", "at_most_for_ms": 1, "at_least_for_ms": 0}})
    run = a_run(task)
    client = staff()
    assert "Nothing is scheduled" in client.get("/admin/tasks/").content.decode()
    assert client.get("/admin/tasks/payroll/").status_code == 403
    grant(client, "describe", "reports.", "prefix")
    page = client.get("/admin/tasks/").content.decode()
    assert "reports.daily" in page
    assert "payroll" not in page
    assert "You lack: alter on schedule reports.daily" in page
    assert "You lack: permission to add periodic tasks" in page
    assert client.get("/admin/tasks/reports.daily/").status_code == 200
    assert client.get(f"/admin/tasks/reports.daily/runs/{run.pk}/").status_code == 200
    for rest in ("run/", "pause/", "resume/"):
        assert client.post(f"/admin/tasks/reports.daily/{rest}").status_code == 403
    assert client.get("/admin/tasks/never/").status_code == 403
    grant(client, "alter", "reports.daily")
    assert "You lack: describe on lock secret" in client.get("/admin/tasks/reports.daily/run/").content.decode()
    assert client.post("/admin/tasks/reports.daily/pause/").status_code == 302
    task.refresh_from_db()
    assert task.paused


def test_a_task_that_is_not_there_is_no_such_page(admin: Client) -> None:
    for rest in ("", "run/", "runs/1/"):
        assert admin.get(f"/admin/tasks/never/{rest}").status_code == 404
    assert admin.get("/admin/tasks/a%00b/").status_code == 404


# -- operators' own -----------------------------------------------------------------------------------------------


FORM = {
    "name": "remind",
    "regtask": "",
    "task": "demo.remind",
    "enabled": "on",
    "description": "",
    "args": "[]",
    "kwargs": "{}",
    "start_time_0": "",
    "start_time_1": "",
    "expires_0": "",
    "expires_1": "",
}
PERIODIC = "/admin/django_celery_beat/periodictask/"


def test_an_operators_periodic_task_is_made_changed_and_deleted(admin: Client) -> None:
    every = IntervalSchedule.objects.create(every=10, period="minutes")
    page = admin.get(f"{PERIODIC}add/").content.decode()
    assert "<script>" not in page
    for field in ("name", "regtask", "task", "interval", "crontab", "clocked", "args"):
        assert f'id="id_{field}"' in page
    for field in ("solar", "queue", "headers"):
        assert f'id="id_{field}"' not in page
    assert admin.post(f"{PERIODIC}add/", FORM | {"interval": every.pk}).status_code == 302
    made = PeriodicTask.objects.get(name="remind")
    assert (made.task, made.enabled, made.interval_id) == ("demo.remind", True, every.pk)
    address = f"{PERIODIC}{made.pk}/change/"
    assert "<script>" not in admin.get(address).content.decode()
    assert admin.post(address, FORM | {"interval": every.pk, "args": '["EWR"]'}).status_code == 302
    assert admin.post(PERIODIC, {"action": "disable_tasks", "_selected_action": made.pk}).status_code == 302
    made.refresh_from_db()
    assert not made.enabled
    assert admin.post(f"{PERIODIC}{made.pk}/delete/", {"post": "yes"}).status_code == 302
    entries = AuditEntry.objects.filter(resource_type="schedule", resource="remind").order_by("id")
    assert [entry.operation for entry in entries] == ["create", "alter", "alter", "delete"]
    assert entries[1].details == {"before": {"args": "[]"}, "after": {"args": '["EWR"]'}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "daily-report"}, "declared in code has this name"),
        ({"task": ""}, "Choose a task, or give its name"),
        ({"interval": ""}, "must be set"),
        ({"args": "["}, "Unable to parse JSON"),
        ({"interval": "", "crontab": "never"}, "The schedule cannot be followed"),
    ],
)
def test_a_periodic_task_that_cannot_run_is_refused(given: dict[str, str], said: str, admin: Client) -> None:
    a_task("daily-report")
    form: dict[str, Any] = FORM | {"interval": IntervalSchedule.objects.create(every=10, period="minutes").pk} | given
    if given.get("crontab"):
        form["crontab"] = CrontabSchedule.objects.create(minute="0", day_of_month="31", month_of_year="2").pk
    page = admin.post(f"{PERIODIC}add/", form)
    assert page.status_code == 200
    assert said in page.content.decode()
    assert not PeriodicTask.objects.exists()


def test_an_operators_task_leads_to_its_form_and_runs_with_a_history(admin: Client, staff: Staff) -> None:
    every = IntervalSchedule.objects.create(every=10, period="minutes")
    made = PeriodicTask.objects.create(name="remind", task="demo.remind", interval=every)
    options = {"task": "demo.remind", "args": ["<EWR>"], "kwargs": {}}
    spec = {"period_ms": 600_000, "initial_delay_ms": 0}
    a_task("remind", source="operator", kind="fixed_rate", spec=spec, options=options, periodic_task_id=made.pk)
    page = admin.get("/admin/tasks/remind/").content.decode()
    assert f"{PERIODIC}{made.pk}/change/" in page
    for text in ("demo.remind", "&lt;EWR&gt;", "Every 10 minutes", "s own</span>"):
        assert text in page
    page = admin.post(PERIODIC, {"action": "run_tasks", "_selected_action": made.pk}, follow=True).content.decode()
    assert "1 run asked for" in page
    assert Run.objects.get().trigger == "operator"
    client = staff()
    grant(client, "describe", "remind")
    assert f"{PERIODIC}{made.pk}/change/" not in client.get("/admin/tasks/remind/").content.decode()
