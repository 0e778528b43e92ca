"""Executors with PostgreSQL, and across processes: connections are given back, forked children begin anew."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from django.db import connection, connections, transaction

from scheduling import Executor
from scheduling.executors import registry
from scheduling.executors.care import ConnectionCare
from scheduling.executors.definition import Definition
from scheduling.executors.pool import Pool
from tests.server import ROOT
from tests.unit.scheduling.executor_pools import DEADLINE, Gated, submit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_definitions", {})
    monkeypatch.setattr(registry, "_pools", {})
    yield
    registry.shutdown(DEADLINE)


def backend() -> int:
    """The PostgreSQL process that serves this thread."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        (pid,) = cursor.fetchone()
    return int(pid)


def is_connected(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("select exists (select from pg_stat_activity where pid = %s)", [pid])
        (there,) = cursor.fetchone()
    return bool(there)


def assert_gone(pid: int) -> None:
    until = time.monotonic() + DEADLINE
    while is_connected(pid):
        assert time.monotonic() < until, "the connection was not given back"


def test_tasks_of_a_thread_share_a_connection_which_ends_with_the_thread() -> None:
    executor = Executor("one", core=1)
    first = executor.submit(backend).result(DEADLINE)
    assert executor.submit(backend).result(DEADLINE) == first
    assert first != backend()
    assert executor.shutdown(DEADLINE) == 0
    assert_gone(first)


def test_a_connection_without_a_maximum_age_is_closed_after_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    executor = Executor("one", core=1)
    assert_gone(executor.submit(backend).result(DEADLINE))


def test_a_connection_that_a_task_leaves_within_a_transaction_is_closed() -> None:
    executor = Executor("one", core=1)

    def leave_open() -> int:
        transaction.set_autocommit(False)
        return backend()

    left = executor.submit(leave_open).result(DEADLINE)
    assert_gone(left)
    assert executor.submit(backend).result(DEADLINE) != left


def test_a_connection_that_broke_is_replaced() -> None:
    executor = Executor("one", core=1)
    broken = executor.submit(backend).result(DEADLINE)
    with connection.cursor() as cursor:
        cursor.execute("select pg_terminate_backend(%s, 5000)", [broken])
    assert executor.submit(backend).result(DEADLINE) != broken


def test_a_thread_with_nothing_to_do_holds_no_connection() -> None:
    pool = Pool(Definition("idle", 1, 1, 1, "idle-", "abort", 1), ConnectionCare(), lambda task, error: None)
    assert_gone(submit(pool, backend).result(DEADLINE))
    assert pool.figures().threads == 1
    assert pool.shutdown(DEADLINE) == 0


def test_caller_runs_leaves_the_callers_transaction_alone() -> None:
    executor = Executor("full", core=1, queue_capacity=0, rejection="caller_runs")
    gated = Gated()
    running = executor.submit(gated)
    with transaction.atomic():
        assert executor.submit(backend).result(0) == backend()
        assert connection.in_atomic_block
    gated.let_go()
    running.result(DEADLINE)


def run(script: str) -> str:
    """What a Python process with the project's settings prints, when it has ended by itself."""
    begin = "import django; django.setup(); from scheduling import Executor, background\n"
    command = [sys.executable, "-c", begin + script]
    environment = {
        "DJANGO_SETTINGS_MODULE": "messaging_site.settings",
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, env=environment, check=True)
    return done.stdout


def test_a_process_that_ends_does_what_was_submitted() -> None:
    script = """
one = Executor("one", core=1)
for number in range(100):
    one.submit(print, number)
"""
    assert run(script).split() == [str(number) for number in range(100)]


def test_a_forked_child_has_threads_of_its_own() -> None:
    script = """
import os, sys, threading
one = Executor("one", core=1)
where = lambda: threading.current_thread().name
print(one.submit(where).result(10), flush=True)
child = os.fork()
if child == 0:
    print(one.submit(where).result(10), one.figures().completed, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(one.submit(where).result(10), one.figures().completed)
"""
    assert run(script).splitlines() == ["one-1", "one-1 1", "one-1 2"]
