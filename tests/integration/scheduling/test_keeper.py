"""Leases of runs: kept while their process lives, and taken from one that is stopped, killed or without a database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psycopg
import pytest
from django.db import connection

from brokers.database import conninfo
from brokers.errors import Unavailable
from scheduling import runs, scheduled
from scheduling.beat.leadership import Leadership
from scheduling.connections import OwnConnection
from scheduling.worker import keeper
from scheduling.worker.performing import Performer
from tests.integration.scheduling.ticking import Database, declaring
from tests.integration.scheduling.worker import LEASE_SECONDS

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def performer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Performer]:
    """One whose leases last for a second."""
    monkeypatch.setattr(runs, "LEASE_SECONDS", LEASE_SECONDS)
    monkeypatch.setattr(keeper, "BEAT_SECONDS", LEASE_SECONDS / 5)
    found = Performer()
    yield found
    found.close()


def until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Worker:
    """The process of `worker.py`."""

    def __init__(self, process: subprocess.Popen[str], orders: IO[str], answers: IO[str]) -> None:
        self.process, self._orders, self._answers = process, orders, answers

    def tell(self, order: object = "") -> None:
        self._orders.write(f"{order}\n")
        self._orders.flush()

    def answer(self) -> str:
        return self._answers.readline().strip()


@contextmanager
def worker() -> Iterator[Worker]:
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), connection.settings_dict["NAME"]]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            found = Worker(process, process.stdin, process.stdout)
            assert found.answer() == "ready"
            yield found
        finally:
            process.kill()


def declare(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Tasks whose functions another process has."""
    with declaring(monkeypatch):
        for name in names:
            scheduled(cron="0 0 0 1 1 *", name=name)(lambda: None)


def test_a_stopped_worker_loses_its_run_and_one_that_ignores_its_timeout_is_killed(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    declare(monkeypatch, "waits", "never comes back")
    with worker() as other:
        assert leads.hold()
        other.tell(database.fire_at_once(leads, "waits"))
        assert other.answer() == "begun"
        at_first = database.rows("select lease_until from scheduling_run")
        late = "select 1 from scheduling_run where clock_timestamp() > %s::timestamptz + interval '0.5 s'"
        until(lambda: database.rows(late, at_first[0][0]), "its first lease is over")
        assert runs.lose(database.own) == 0, "it was renewed"

        other.process.send_signal(signal.SIGSTOP)
        until(lambda: runs.lose(database.own), "the stopped worker's lease lapses")
        other.process.send_signal(signal.SIGCONT)
        other.tell()
        assert other.answer() == "done"
        assert database.rows("select state, result, attempts, losses from scheduling_run") == [("lost", None, 1, 1)]

        assert leads.hold()
        other.tell(database.fire_at_once(leads, "never comes back"))
        assert other.answer() == "begun"
        assert other.process.wait(10) == -signal.SIGKILL
        ((state, error, ended),) = database.rows(
            "select state, error, ended_at from scheduling_run where function = 'never comes back'"
        )
        assert (state, "ignored its timeout" in error, ended is not None) == ("timed_out", True, True)
    assert runs.lose(database.own) == 0


def test_a_run_that_was_taken_away_is_told_so_and_its_result_dropped(
    monkeypatch: pytest.MonkeyPatch,
    database: Database,
    leads: Leadership,
    performer: Performer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[bool] = []

    def is_robbed() -> str:
        ((run,),) = database.rows("select id from scheduling_run where state = 'running'")
        database.do("update scheduling_run set lease_until = clock_timestamp() - interval '1 s' where id = %s", run)
        assert runs.lose(database.own) == 1
        until(lambda: run in performer._keeper._lost, "the keeper notices")
        told.append(True)
        return "nobody wants it"

    with declaring(monkeypatch):
        scheduled(fixed_delay="PT1H", name="robbed")(is_robbed)
    performer.perform(database.fire_at_once(leads, "robbed"))
    assert told == [True]
    assert database.rows("select state, result from scheduling_run") == [("lost", None)]
    assert database.task("robbed", "next_due") is None, "the sweep has it count again, not who has lost it"
    assert performer._keeper._lost == set(), "forgotten with the run"
    assert "a run was taken from this process" in caplog.text


def test_a_run_ends_when_the_database_is_back(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership, performer: Performer
) -> None:
    """Both connections of the worker are cut, and cannot be made anew for a while."""
    away = threading.Event()
    connect = psycopg.connect

    def refuse(*arguments: object, **options: object) -> object:
        if away.is_set():
            raise psycopg.OperationalError("no route to host")
        return connect(*arguments, **options)  # type: ignore[arg-type]

    def is_cut() -> str:
        away.set()
        monkeypatch.setattr(psycopg, "connect", refuse)
        with connect(conninfo(), autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
                " and application_name in ('waystation-runs', 'waystation-keeper')"
            )
        threading.Timer(0.7, away.clear).start()
        return "came through"

    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="cut")(is_cut)
    performer.perform(database.fire_at_once(leads, "cut"))
    assert not away.is_set(), "it has waited"
    assert database.rows("select state, result from scheduling_run") == [("succeeded", "came through")]


def test_leases_that_cannot_be_renewed_are_tried_again(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership, performer: Performer
) -> None:
    renew, failures = runs.extend, 0

    def sometimes(own: OwnConnection, attempts: object) -> object:
        nonlocal failures
        failures += 1
        if failures <= 2:
            raise Unavailable("the database is away")
        return renew(own, attempts)  # type: ignore[arg-type]

    monkeypatch.setattr(runs, "extend", sometimes)
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="long")(lambda: until(lambda: failures >= 4, "leases are renewed"))
    performer.perform(database.fire_at_once(leads, "long"))
    assert database.states("long") == ["succeeded"]
