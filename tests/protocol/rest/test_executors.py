"""Executors of all processes over REST and in the metrics, and what becomes of their tasks when a process ends.

One server with a task worker; the tests build on each other, and the last one stops it.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from tests.live_client import live_client
from tests.server import Server, fresh_database, running

Json = dict[str, Any]
VARIABLES = {
    "WAYSTATION_APPS": "tests.executor_app",
    "WAYSTATION_TASK_PROCESSES": "1",
    "WAYSTATION_LISTENER_PROCESSES": "1",
    "WAYSTATION_WEB_PROCESSES": "1",
}
TASK = "/api/v1/scheduled-tasks/hand%20over"
HANDED_OVER = 6


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with fresh_database() as url, running(url, **VARIABLES) as started:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("create table executor_work (process int, number int)")
        yield started


def until(condition: Callable[[], Any], found: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, found()
        time.sleep(0.05)


def executors(api: httpx.Client) -> dict[str, Json]:
    answer = api.get("/api/v1/executors")
    assert answer.status_code == 200, answer.text
    return {each["name"]: each for each in answer.json()["items"]}


def figures(api: httpx.Client) -> dict[str, float]:
    lines = api.get("/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def process(server: Server, word: str) -> psutil.Process:
    """The process of the server that was started with this word."""
    return next(each for each in psutil.Process(server.process.pid).children() if word in each.cmdline())


def done(server: Server) -> list[tuple[int, int]]:
    """Processes and numbers of the pieces of work that were done."""
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        return connection.execute("select process, number from executor_work order by 1, 2").fetchall()


def reporting(server: Server) -> set[int]:
    """Processes whose executors were reported."""
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        return {pid for (pid,) in connection.execute("select pid from scheduling_executorreport")}


async def hand_over(server: Server, count: int, seconds: float) -> None:
    """Has the web process hand work to its executor; returns when it has."""
    async with live_client(server.url, server.admin_token) as client:
        body = json.dumps({"count": count, "seconds": seconds})
        await client.send("SEND", {"destination": "/app/work", "receipt": "sent"}, body)
        frame = await client.receive()
        assert (frame.command, frame.headers["receipt-id"]) == ("RECEIPT", "sent")


def test_executors_that_nobody_has_used_are_listed(api: httpx.Client) -> None:
    found = executors(api)
    assert list(found) == ["default", "slow", "unused"]
    sizes = ("core", "max", "queue_capacity", "rejection")
    assert [found["unused"][size] for size in sizes] == [2, 4, 5, "discard"]
    assert {found["unused"][count] for count in found["unused"] if count not in (*sizes, "name")} == {0}


def test_a_task_workers_executors_are_seen_from_elsewhere_while_they_work(server: Server, api: httpx.Client) -> None:
    run = api.post(f"{TASK}/runs").json()["id"]
    until(lambda: executors(api)["slow"]["active"], lambda: executors(api)["slow"])
    slow = executors(api)["slow"]
    assert (slow["processes"], slow["threads"]) == (1, 1)
    until(lambda: executors(api)["slow"]["completed"] == HANDED_OVER, lambda: executors(api)["slow"])
    slow = executors(api)["slow"]
    assert (slow["active"], slow["queued"], slow["failed"], slow["rejected"]) == (0, 0, 0, 0)
    assert slow["seconds"] > 0.3 * HANDED_OVER
    ended = api.get(f"{TASK}/runs/{run}").json()
    assert (ended["state"], ended["result"]) == ("succeeded", {"handed_over": HANDED_OVER})


def test_metrics_of_workers_and_beats_are_served_too(server: Server, api: httpx.Client) -> None:
    counts = {
        'waystation_runs_total{kind="scheduled",name="hand over",result="succeeded"}': 1,
        'waystation_run_seconds_count{kind="scheduled"}': 1,
        'waystation_run_late_seconds_count{kind="scheduled"}': 1,
        "waystation_locks_acquired_total": 1,
        "waystation_locks_released_total": 1,
        "waystation_locks_lost_total": 0,
        "waystation_beat_leads": 1,
        'waystation_executor_threads{executor="slow"}': 1,
        'waystation_executor_active{executor="slow"}': 0,
        'waystation_executor_tasks_total{executor="slow"}': HANDED_OVER,
        'waystation_executor_rejections_total{executor="slow"}': 0,
    }
    until(lambda: counts.items() <= figures(api).items(), lambda: figures(api))
    found = figures(api)
    assert found['waystation_executor_task_seconds_total{executor="slow"}'] > 0.3 * HANDED_OVER
    assert time.time() - found["waystation_beat_ticked_seconds"] < 10


def test_gauges_of_a_killed_task_worker_are_forgotten(server: Server, api: httpx.Client) -> None:
    child = process(server, "worker").children()[0]
    files = Path(server.environment["WAYSTATION_DATA_DIR"]) / "metrics"
    assert list(files.glob(f"gauge_livesum_{child.pid}.db"))
    child.kill()
    gauge = 'waystation_executor_threads{executor="slow"}'
    until(lambda: figures(api).get(gauge, 0) == 0, lambda: figures(api)[gauge])
    assert not list(files.glob(f"gauge_live*_{child.pid}.db"))
    assert figures(api)['waystation_executor_tasks_total{executor="slow"}'] == HANDED_OVER, "what was counted stays"


async def test_processes_that_are_told_to_stop_do_what_is_queued_and_say_what_they_could_not(
    server: Server, api: httpx.Client
) -> None:
    web, worker = process(server, "messaging_site.asgi:application"), process(server, "worker").children()[0]
    listener = process(server, "listen")
    run = api.post(f"{TASK}/runs").json()["id"]
    until(lambda: api.get(f"{TASK}/runs/{run}").json()["state"] == "succeeded", lambda: server.log.read_text())
    published = {"records": [{"value": {"count": 6, "seconds": 0.4}}]}
    assert api.post("/api/v1/topics/work/records", json=published).status_code == 200
    until(lambda: listener.pid in reporting(server), lambda: reporting(server))
    await hand_over(server, 5, 0.2)
    await hand_over(server, 2, 60)
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(15)
    for each, pieces in ((web, 5), (worker, HANDED_OVER), (listener, 6)):
        assert [number for pid, number in done(server) if pid == each.pid] == list(range(pieces)), each
    said = [line for line in server.log.read_text().splitlines() if "were not done when the process ended" in line]
    assert [json.loads(line)["tasks"] for line in said] == [2]
    assert not reporting(server) & {web.pid, worker.pid, listener.pid}
