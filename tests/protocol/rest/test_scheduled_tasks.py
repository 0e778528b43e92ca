"""Scheduled tasks over REST: what they are, their runs, pausing, running now, and who may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest

from tests.protocol.rest.seeded_failures import seeding
from tests.protocol.rest.seeded_tasks import CRON, run_of, task_of
from tests.server import Server, unique

LOCK = {"name": "reports", "at_most_for_ms": 600_000, "at_least_for_ms": 0}


@pytest.fixture
def database(server: Server) -> Iterator[psycopg.Connection[Any]]:
    with seeding(server) as connection:
        yield connection


@pytest.fixture
def name(database: psycopg.Connection[Any]) -> str:
    """A task that takes a lock, and has no runs; its name holds what paths cannot."""
    name = f"{unique('daily')}/100 %?.€"
    task_of(database, name, options=json.dumps({"timeout_ms": 60_000, "jitter_ms": 5, "lock": LOCK}))
    return name


def path(name: str, *more: object) -> str:
    return "/".join(["/api/v1/scheduled-tasks", quote(name, safe=""), *map(str, more)])


def audited(database: psycopg.Connection[Any], name: str) -> list[tuple[str, str, dict[str, Any]]]:
    statement = "select surface, operation, details from brokers_audit_entry where resource = %s order by id"
    return database.execute(statement, [name]).fetchall()


def test_a_task_says_when_it_runs_and_how(api: httpx.Client, name: str) -> None:
    task = api.get(path(name)).json()
    assert (task["name"], task["kind"], task["spec"], task["source"]) == (name, "cron", CRON, "code")
    assert "08:00" in task["schedule"]
    assert (task["overlap"], task["misfire"], task["timeout_ms"], task["jitter_ms"]) == ("skip", "run_once", 60_000, 5)
    assert task["lock"] == LOCK
    assert (task["declared"], task["paused"], task["note"], task["last_run"]) == (True, False, "", None)
    assert task["next_due"] == "2096-07-01T12:00:00.000Z"
    assert task["upcoming"][:2] == ["2096-07-01T12:00:00.000Z", "2096-07-02T12:00:00.000Z"]
    assert task["last_runs"] == []


def test_running_it_now_makes_a_run_and_says_where_it_is(
    api: httpx.Client, name: str, database: psycopg.Connection[Any]
) -> None:
    answer = api.post(path(name, "runs"))
    run = answer.json()
    assert answer.status_code == 202
    assert (run["state"], run["trigger"], run["started_at"], run["result"]) == ("ready", "operator", None, None)
    assert run["requested_by"].startswith("admin")
    assert answer.headers["location"] == path(name, "runs", run["id"])
    assert api.get(answer.headers["location"]).json() == run
    assert audited(database, name) == [("rest", "run", {"run": run["id"]})]


def test_a_repeat_under_an_idempotency_key_gets_the_first_run(
    api: httpx.Client, name: str, database: psycopg.Connection[Any]
) -> None:
    headers = {"Idempotency-Key": unique("key")}
    first, second = (api.post(path(name, "runs"), headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json() == first.json()
    assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
    assert len(api.get(path(name, "runs")).json()["items"]) == 1
    another = unique("another")
    task_of(database, another)
    refused = api.post(path(another, "runs"), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")


def test_pausing_takes_a_note_and_resuming_takes_it_away(
    api: httpx.Client, name: str, database: psycopg.Connection[Any]
) -> None:
    paused = api.patch(path(name), json={"paused": True, "note": "until the export is mended"})
    assert paused.status_code == 200
    assert (paused.json()["paused"], paused.json()["note"]) == (True, "until the export is mended")
    assert (paused.json()["next_due"], paused.json()["upcoming"]) == (None, [])
    assert api.patch(path(name), json={"paused": True}).json() == paused.json(), "it was so already"
    assert api.patch(path(name), json={"note": "mended"}).json()["paused"]
    assert api.post(path(name, "runs")).status_code == 202, "an operator's run does not mind"
    resumed = api.patch(path(name), json={"paused": False}).json()
    assert (resumed["paused"], resumed["note"]) == (False, "")
    assert resumed["next_due"] == "2096-07-01T12:00:00.000Z"
    assert [operation for _, operation, _ in audited(database, name)] == ["pause", "note", "run", "resume"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_value"),
        ({"paused": 1}, "invalid_type"),
        ({"note": "x" * 501}, "invalid_value"),
        ({"note": "\0"}, "invalid_value"),
        ({"pause": True}, "unknown_field"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(api: httpx.Client, name: str, body: Any, code: str) -> None:
    refused = api.patch(path(name), json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, code), refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    assert not api.get(path(name)).json()["paused"]


def test_history_comes_latest_first_in_pages(api: httpx.Client, database: psycopg.Connection[Any]) -> None:
    name = unique("hourly")
    task = task_of(database, name)
    trace = "Traceback:\n" + "line\n" * 1000 + "LookupError: no such flight"
    first = run_of(database, task, result=json.dumps({"rows": 3}))
    second = run_of(database, task, due_at="2026-01-02 13:00:00+00", state="failed", error=trace)
    page = api.get(path(name, "runs"), params={"limit": 1}).json()
    assert [run["id"] for run in page["items"]] == [second]
    assert (page["items"][0]["state"], page["next"]) == ("failed", str(second))
    assert page["items"][0]["error"].endswith("LookupError: no such flight")
    assert len(page["items"][0]["error"]) == 1000
    assert "result" not in page["items"][0]
    rest = api.get(path(name, "runs"), params={"limit": 1, "before": page["next"]}).json()
    assert ([run["id"] for run in rest["items"]], rest["next"]) == ([first], None)
    assert api.get(path(name, "runs", second)).json()["error"] == trace
    whole = api.get(path(name, "runs", first)).json()
    assert (whole["result"], whole["process"], whole["ended_at"]) == ({"rows": 3}, "host:7", "2026-01-01T13:00:01.500Z")
    described = api.get(path(name)).json()
    assert (described["last_run"]["id"], described["last_run"]["state"]) == (second, "failed")
    assert [run["id"] for run in described["last_runs"]] == [second, first]


def test_what_is_not_there_is_not_found(api: httpx.Client, name: str, database: psycopg.Connection[Any]) -> None:
    for method, where in (("GET", ()), ("POST", ("runs",)), ("GET", ("runs",)), ("PATCH", ())):
        body = {"paused": True} if method == "PATCH" else None
        missing = api.request(method, path(unique("none"), *where), json=body)
        assert (missing.status_code, missing.json()["code"]) == (404, "task_not_found")
    for task, run in ((name, 2**62), (unique("none"), 1)):
        missing = api.get(path(task, "runs", run))
        assert (missing.status_code, missing.json()["code"]) == (404, "run_not_found")
    assert api.get(path("n" * 201)).status_code == 422
    assert api.get(path(name, "runs", "first")).status_code == 422
    withdrawn = unique("withdrawn")
    task_of(database, withdrawn, is_declared=False)
    assert api.get(path(withdrawn)).json()["declared"] is False
    assert api.post(path(withdrawn, "runs")).status_code == 404


def test_lists_have_pages_of_what_the_caller_may_describe(
    api: httpx.Client, server: Server, database: psycopg.Connection[Any]
) -> None:
    prefix = unique("page")
    for number in range(4):
        task_of(database, f"{prefix}-{number}")
    first = api.get("/api/v1/scheduled-tasks", params={"limit": 2, "after": prefix}).json()
    assert [each["name"] for each in first["items"]] == [f"{prefix}-0", f"{prefix}-1"]
    assert "last_runs" not in first["items"][0]
    second = api.get("/api/v1/scheduled-tasks", params={"limit": 1, "after": first["next"]}).json()
    assert second["items"][0]["name"] == f"{prefix}-2"
    grants = [{"operation": "alter", "resource_type": "schedule", "name": f"{prefix}-{n}"} for n in (1, 3)]
    token = api.post("/api/v1/tokens", json={"name": prefix, "grants": grants}).json()["token"]
    with server.client(token) as operator:
        page = operator.get("/api/v1/scheduled-tasks", params={"limit": 1}).json()
        assert ([each["name"] for each in page["items"]], page["next"]) == ([f"{prefix}-1"], f"{prefix}-1")
        page = operator.get("/api/v1/scheduled-tasks", params={"after": page["next"]}).json()
        assert ([each["name"] for each in page["items"]], page["next"]) == ([f"{prefix}-3"], None)
        assert operator.post(path(f"{prefix}-1", "runs")).status_code == 202
        assert operator.post(path(f"{prefix}-2", "runs")).status_code == 403
