"""What a worker does with a run: calls it, ends it, and leaves it where it is not the worker's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from scheduling import runs, scheduled, scheduler_lock
from scheduling.beat import mirror
from scheduling.beat.leadership import Leadership
from scheduling.errors import RunTimedOut
from scheduling.tasks import declared, store
from scheduling.worker.performing import Performer
from tests.integration.scheduling.ticking import Database, declaring

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def performer() -> Iterator[Performer]:
    found = Performer()
    yield found
    found.close()


def test_a_run_ends_with_what_its_function_answers(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership, performer: Performer
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="counts")(lambda: {"rows": 3})
    performer.perform(database.fire_at_once(leads, "counts"))
    ((state, result, process, attempts),) = database.rows("select state, result, process, attempts from scheduling_run")
    assert (state, result, attempts) == ("succeeded", {"rows": 3}, 1)
    assert process


def test_a_run_that_is_told_of_twice_is_done_once(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership, performer: Performer
) -> None:
    calls: list[int] = []
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="once")(lambda: calls.append(1))
    run = database.fire_at_once(leads, "once")
    performer.perform(run)
    performer.perform(run)
    assert calls == [1]


def test_what_a_function_raises_is_the_runs_failure(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership, performer: Performer
) -> None:
    def fail() -> None:
        raise LookupError("no such flight")

    with declaring(monkeypatch):
        scheduled(fixed_delay="PT1H", name="fails")(fail)
    performer.perform(database.fire_at_once(leads, "fails"))
    ((state, error),) = database.rows("select state, error from scheduling_run")
    assert state == "failed"
    assert "no such flight" in error
    assert database.task("fails", "next_due") is not None


def test_a_run_is_interrupted_after_its_timeout(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership, performer: Performer
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="hangs", timeout="PT0.1S")(lambda: threading.Event().wait(20))
    performer.perform(database.fire_at_once(leads, "hangs"))
    ((state, error),) = database.rows("select state, error from scheduling_run")
    assert state == "timed_out"
    assert RunTimedOut.__name__ in error


def test_a_run_whose_lock_is_held_is_skipped(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership, performer: Performer
) -> None:
    calls: list[int] = []
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="locked", lock="of-a-task")(lambda: calls.append(1))
    held = scheduler_lock("of-a-task", "PT1M").acquire()
    assert held is not None
    performer.perform(database.fire_at_once(leads, "locked"))
    held.unlock()
    performer.perform(database.fire_at_once(leads, "locked"))
    assert database.states("locked") == ["skipped", "succeeded"]
    assert calls == [1]


def test_a_run_that_was_lost_is_not_ended_by_who_wakes_up(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership, performer: Performer
) -> None:
    def sleep_too_long() -> None:
        database.do("update scheduling_run set lease_until = clock_timestamp() - interval '1 s'")
        runs.lose(database.own)

    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="sleeper")(sleep_too_long)
    performer.perform(database.fire_at_once(leads, "sleeper"))
    assert database.states("sleeper") == ["lost"]


def test_a_task_that_no_worker_knows_fails_with_its_name(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership, performer: Performer
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="unknown")(lambda: None)
    monkeypatch.setattr(declared, "_declared", {})
    performer.perform(database.fire_at_once(leads, "unknown"))
    ((error,),) = database.rows("select error from scheduling_run r where function = 'unknown'")
    assert "'unknown'" in error


def test_an_operators_periodic_task_is_fired_and_told_so(
    database: Database, leads: Leadership, performer: Performer
) -> None:
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    from scheduling.celery_app import app

    calls: list[tuple[object, ...]] = []

    @app.task(name="tests.note")  # type: ignore[untyped-decorator]  # the library has no types
    def note(*given: object, **named: object) -> None:
        calls.append((given, named))

    interval = IntervalSchedule.objects.create(every=1, period="hours")
    periodic = PeriodicTask.objects.create(
        name="operators", task="tests.note", interval=interval, args=json.dumps([1]), kwargs=json.dumps({"b": 2})
    )
    now = store.database_now(database.own)
    mirror.Mirror().look(database.own, now)
    assert database.task("operators", "next_due") > now
    performer.perform(database.fire_at_once(leads, "operators"))
    mirror.note_fired([periodic.id], now)
    assert calls == [((1,), {"b": 2})]
    assert database.states("operators") == ["succeeded"]
    periodic.refresh_from_db()
    assert (periodic.total_run_count, periodic.last_run_at) == (1, now)
    periodic.delete()
    mirror.Mirror().look(database.own, now)
    assert not database.task("operators", "is_declared")


def test_ended_runs_are_forgotten_after_their_time(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership, performer: Performer
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="old")(lambda: None)
    performer.perform(database.fire_at_once(leads, "old"))
    assert runs.purge(database.own, 1) == 0
    database.do("update scheduling_run set ended_at = clock_timestamp() - interval '25 h'")
    assert runs.purge(database.own, 1) == 1
