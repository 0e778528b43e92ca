"""What processes report of their executors, and what the others make of it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from brokers import processes
from scheduling import Executor
from scheduling.connections import OwnConnection
from scheduling.errors import TaskRejected
from scheduling.executors import registry, reporter, reports
from scheduling.executors.reporter import Reporter
from tests.integration.scheduling.ticking import Database
from tests.unit.scheduling.executor_pools import DEADLINE, Gated

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_definitions", {})
    monkeypatch.setattr(registry, "_pools", {})
    monkeypatch.setattr(reporter, "_reporters", [])
    yield
    registry.shutdown(DEADLINE)


@pytest.fixture
def own() -> Iterator[Reporter]:
    """That of this process, which looks when it is told to."""
    found = Reporter("web")
    yield found
    found.stop()


@pytest.fixture
def mails() -> Executor:
    return Executor("mails", core=1, max=1, queue_capacity=1)


def summary() -> reports.ExecutorSummary:
    return next(each for each in reports.summed() if each.name == "mails")


def test_a_process_that_has_used_no_executor_reports_nothing(mails: Executor, own: Reporter) -> None:
    own.look()
    assert reports.reports() == []
    assert (summary().processes, summary().core, summary().completed) == (0, 1, 0)


def test_a_report_says_what_goes_on_and_is_taken_back_at_the_end(mails: Executor, own: Reporter) -> None:
    gated = Gated()
    running = mails.submit(gated)
    assert gated.began.wait(DEADLINE)
    mails.submit(int)
    with pytest.raises(TaskRejected):
        mails.submit(int)
    own.look()
    (report,) = reports.reports()
    assert report.kind == "web"
    assert report.executors == registry.in_use()
    assert (summary().processes, summary().threads) == (1, 1)
    assert (summary().active, summary().queued, summary().rejected, summary().completed) == (1, 1, 1, 0)
    gated.let_go()
    running.result(DEADLINE)
    own.start()
    own.stop()
    assert reports.reports() == []


def test_what_processes_do_is_summed(mails: Executor) -> None:
    connection = OwnConnection("tests")
    mails.submit(int).result(DEADLINE)
    (figures,) = registry.in_use()
    for number, host in enumerate(("one", "other")):
        used = [figures, replace(figures, name="declared-elsewhere")][: number + 1]
        reports.write(connection, uuid.uuid4(), host, 7, "web", used)
    assert [report.host for report in reports.reports()] == ["one", "other"]
    assert (summary().processes, summary().completed) == (2, 2)
    assert [(each.name, each.completed) for each in reports.summed()] == [
        ("declared-elsewhere", 1),
        ("default", 0),
        ("mails", 2),
    ]
    connection.close()


def test_an_unchanged_report_is_renewed_now_and_then_and_else_costs_nothing(
    mails: Executor, own: Reporter, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    mails.submit(int).result(DEADLINE)
    own.look()
    ((written,),) = database.rows("select xmin::text from scheduling_executorreport")
    own.look()
    assert database.rows("select xmin::text from scheduling_executorreport") == [(written,)]
    monkeypatch.setattr(reporter, "RENEW_SECONDS", 0.0)
    own.look()
    assert database.rows("select xmin::text from scheduling_executorreport") != [(written,)]


def test_a_process_that_is_heard_of_no_more_is_gone_and_later_forgotten(
    mails: Executor, own: Reporter, database: Database
) -> None:
    mails.submit(int).result(DEADLINE)
    own.look()
    database.do("update scheduling_executorreport set at = at - interval '16 s'")
    assert reports.reports() == []
    database.do("update scheduling_executorreport set at = at - interval '60 s'")
    another = Reporter("web")
    another.look()
    another.stop()
    assert database.rows("select count(*) from scheduling_executorreport") == [(0,)]


def test_a_worker_says_that_it_lives_until_it_ends(own: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    own.say_alive()
    assert processes.listed() == [], "a web process says so itself"
    worker = Reporter(reporter.WORKER)
    with monkeypatch.context() as away:
        away.setattr("scheduling.connections.conninfo", lambda: "host=/nowhere")
        worker.say_alive()
    worker.say_alive()
    (listed,) = processes.listed()
    assert (listed.kind, listed.pid) == ("task worker", os.getpid())
    worker.stop()
    assert processes.listed() == []


def test_a_process_goes_on_unreported_while_the_database_is_away(
    mails: Executor, own: Reporter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mails.submit(int).result(DEADLINE)
    with monkeypatch.context() as away:
        away.setattr("scheduling.connections.conninfo", lambda: "host=/nowhere")
        own.look()
        own.look()
    assert len([record for record in caplog.records if record.name == "waystation.executors"]) == 1
    own.look()
    assert len(reports.reports()) == 1


def test_the_end_of_a_process_ends_its_executors_and_says_what_was_not_done(
    mails: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    gated = Gated()
    processes.begin("web")
    running = mails.submit(gated)
    mails.submit(int)
    processes.end(0.05)
    assert [record.tasks for record in caplog.records if hasattr(record, "tasks")] == [2]
    with pytest.raises(TaskRejected):
        mails.submit(int)
    assert registry.shutdown(DEADLINE) == 0, "a second one waits for nothing"
    gated.let_go()
    running.result(DEADLINE)
