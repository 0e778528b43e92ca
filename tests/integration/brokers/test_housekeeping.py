"""Housekeeping: jobs are run when due, by one process at a time, and one that fails stops no other."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

import pytest
from django.db import IntegrityError, connection, connections

from brokers import housekeeping, processes, publish, topics
from brokers.database import sync_cursor
from brokers.errors import Unavailable
from brokers.housekeeping import OUTWARD, QUEUES, QUICK, SLOW, Background, Housekeeper, Job, KeepGoing, run_alone
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


def job(run: Callable[[KeepGoing], int], seconds: float = 60.0, number: int = 901) -> Job:
    return Job(number, f"test {number}", seconds, run)


def noting(runs: list[str], name: str = "ran") -> Callable[[KeepGoing], int]:
    """A job's function that writes down that it ran."""

    def run(_: KeepGoing) -> int:
        runs.append(name)
        return 1

    return run


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether a condition comes to hold in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_every_job_has_a_number_of_its_own() -> None:
    numbers = [job.number for job in QUICK + SLOW + QUEUES + OUTWARD]
    assert len(set(numbers)) == len(numbers)


def test_all_jobs_run_on_an_empty_database_and_on_one_with_records() -> None:
    for _ in range(2):
        for each in QUICK + SLOW + QUEUES + OUTWARD:
            run_alone(each)
        topics.create(unique(), partitions=2)
        publish(topics.create(unique(), cleanup_policy="compact").name, 1, key="k")


def test_a_job_runs_when_it_is_due_and_not_before() -> None:
    runs: list[str] = []
    keeper = Housekeeper([job(noting(runs, "often"), 0.05), job(noting(runs, "once"), 60.0, 902)])
    assert keeper.run_due() <= 0.05
    assert runs == ["often", "once"]
    keeper.run_due()
    assert until(lambda: keeper.run_due() >= 0 and runs.count("often") == 3)
    assert runs.count("once") == 1


def test_two_processes_never_do_the_same_job_at_once() -> None:
    inside = threading.Event()
    release = threading.Event()

    def slow(_: KeepGoing) -> int:
        inside.set()
        assert release.wait(10)
        return 1

    answers: list[int] = []

    def first() -> None:
        answers.append(run_alone(job(slow)))
        connections.close_all()

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)
    assert run_alone(job(lambda _: 7)) == 0
    assert run_alone(job(lambda _: 7, number=902)) == 7
    release.set()
    thread.join()
    assert answers == [1]
    assert run_alone(job(lambda _: 7)) == 7


def test_a_job_that_fails_is_logged_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[str] = []

    def refused(_: KeepGoing) -> int:
        raise IntegrityError("a row is missing")

    def cancelled(_: KeepGoing) -> int:
        with sync_cursor() as cursor:
            cursor.execute("set statement_timeout = 1; select pg_sleep(1)")
        return 1

    keeper = Housekeeper([job(refused), job(cancelled, number=902), job(noting(runs), number=903)])
    with caplog.at_level(logging.WARNING):
        keeper.run_due()
    connection.close()
    assert runs == ["ran"]
    assert [record.message for record in caplog.records] == ["job failed"] * 2
    assert run_alone(job(lambda _: 7)) == 7, "its lock is free again"


def lose_connection() -> None:
    """As when PostgreSQL restarts: this process's connection is gone."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        [pid] = cursor.fetchone()

    def terminate() -> None:
        with connection.cursor() as cursor:
            cursor.execute("select pg_terminate_backend(%s, 5000)", [pid])
        connections.close_all()

    thread = threading.Thread(target=terminate)
    thread.start()
    thread.join()


def test_a_lost_connection_is_told_and_the_next_call_makes_a_new_one() -> None:
    runs: list[str] = []
    keeper = Housekeeper([job(noting(runs), seconds=0.0)])
    lose_connection()
    with pytest.raises(Unavailable):
        keeper.run_due()
    keeper.run_due()
    assert runs == ["ran"]


def test_slow_jobs_run_beside_until_the_end(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[int] = []
    names: set[str] = set()

    def work(keep_going: KeepGoing) -> int:
        names.add(threading.current_thread().name)
        while keep_going() and len(runs) < 5:
            runs.append(1)
        return 1

    with Background([job(work, seconds=0.0)]) as background:
        assert until(lambda: len(runs) == 5)
        assert background.is_alive()
    assert not background.is_alive()
    assert names == {"waystation-housekeeping"}


def test_an_endless_slow_job_is_told_to_stop() -> None:
    def endless(keep_going: KeepGoing) -> int:
        assert until(lambda: not keep_going(), 30)
        return 1

    started = time.monotonic()
    with Background([job(endless)]) as background:
        assert background.is_alive()
    assert time.monotonic() - started < 2
    assert not background.is_alive()


def test_the_background_goes_on_after_its_connection_was_lost() -> None:
    runs: list[int] = []

    def lose_it_twice(_: KeepGoing) -> int:
        runs.append(1)
        if len(runs) < 3:
            lose_connection()
            with sync_cursor() as cursor:
                cursor.execute("select 1")
        return 1

    with Background([job(lose_it_twice, seconds=0.0)]) as background:
        assert until(lambda: len(runs) > 4)
        assert background.is_alive()


def test_while_the_database_is_away_it_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "AWAY_SECONDS", 0.01)
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    tries: list[int] = []
    monkeypatch.setattr(housekeeping, "close_old_connections", lambda: tries.append(1))
    with caplog.at_level(logging.WARNING), Background([job(lambda _: 1, seconds=0.0)]):
        assert until(lambda: len(tries) > 5)
    assert [record.message for record in caplog.records] == ["the database is away"]


def test_live_processes_are_counted_and_silent_ones_forgotten() -> None:
    first, second = processes.Heartbeat("listener"), processes.Heartbeat("listener")
    for heartbeat in (first, second, first):
        heartbeat.beat()
    assert (processes.live("listener"), processes.live("web")) == (2, 0)
    assert [(each.kind, each.pid) for each in processes.listed()] == [("listener", os.getpid())] * 2
    with connection.cursor() as cursor:
        cursor.execute("update brokers_process set beat_at = beat_at - interval '30 seconds'")
    first.beat()
    assert processes.live("listener") == 1
    silent = sorted(each.silent_seconds for each in processes.listed())
    assert silent[0] < processes.STALE_SECONDS < 30 <= silent[1]
    assert processes.purge() == 0
    with connection.cursor() as cursor:
        cursor.execute("update brokers_process set beat_at = beat_at - interval '31 seconds'")
    first.beat()
    assert processes.purge() == 1
    first.end()
    assert processes.live("listener") == 0
