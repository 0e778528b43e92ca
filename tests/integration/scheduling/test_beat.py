"""Beats: their clock, their lead, what operators write that makes no sense, and a Redis that is away or hangs."""

from __future__ import annotations

import json
import logging
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask
from kombu import pools

from brokers import processes
from scheduling import doorbell as ringing
from scheduling import runs, scheduled
from scheduling.beat import clock, leadership, mirror, scheduler, sweeping
from scheduling.beat.clock import DatabaseClock
from scheduling.beat.leadership import LEASE_MS, Leadership
from scheduling.beat.scheduler import Scheduler
from scheduling.celery_app import TASK, app
from scheduling.doorbell import Doorbell
from scheduling.identity import queue_name
from scheduling.locks import store as locks
from scheduling.tasks import store
from scheduling.worker.performing import Performer
from tests.integration.scheduling.ticking import Database, declaring

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
YEARLY = "0 0 0 1 1 *"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The runs that workers were told of, instead of telling them."""
    found: list[int] = []

    class Bell(Doorbell):
        def ring_all(self, runs: Any) -> list[int]:
            found.extend(rung := list(runs))
            return rung

    for module in (scheduler, sweeping):
        monkeypatch.setattr(module, "doorbell", Bell())
    return found


@pytest.fixture
def beat(monkeypatch: pytest.MonkeyPatch, database: Database, told: list[int]) -> Iterator[Scheduler]:
    """A beat that looks at everything at each tick."""
    for module, name in ((scheduler, "READ_SECONDS"), (mirror, "LOOK_SECONDS"), (mirror, "FULL_SECONDS")):
        monkeypatch.setattr(module, name, 0.0)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    found = Scheduler(app, lazy=True)
    yield found
    found.close()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_a_beat_says_that_it_lives_until_it_ends(beat: Scheduler) -> None:
    beat.tick()
    assert [each.kind for each in processes.listed()] == ["beat"]
    beat.close()
    assert processes.listed() == []


# -- clock and lead -------------------------------------------------------------------------------------------------


class Monotonic:
    """The process's clock, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        for module in (clock, leadership):
            monkeypatch.setattr(module, "time", self)

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.0), (3.0, 0.0), (0.0, 3.0), (0.001, 0.002)])
def test_the_clock_is_never_ahead_of_the_databases(
    monkeypatch: pytest.MonkeyPatch, database: Database, before: float, after: float
) -> None:
    """Also where the process was stopped before its question reached the database, or before it saw the answer."""
    mine = Monotonic(monkeypatch)

    def ask(connection: object) -> datetime:
        mine.now += before
        at = NOON + timedelta(seconds=mine.now - 100)
        mine.now += after
        return at

    monkeypatch.setattr(store, "database_now", ask)
    found = DatabaseClock()
    found.read(database.own)
    for passed in (0.0, 0.5, 60.0):
        mine.now = 100 + before + after + passed
        truth = NOON + timedelta(seconds=mine.now - 100)
        assert truth - timedelta(seconds=after, microseconds=10) <= found.now() <= truth


def test_a_beat_never_believes_in_its_lead_for_longer_than_the_database(
    monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    """Taking and renewing it may take long: they count from their beginning."""
    mine = Monotonic(monkeypatch)

    def slowly(statement: Any) -> Any:
        def run(*arguments: Any) -> Any:
            mine.now += 1.0
            return statement(*arguments)

        return run

    monkeypatch.setattr(locks, "acquire", slowly(locks.acquire))
    monkeypatch.setattr(locks, "extend", slowly(locks.extend))
    lead = Leadership()
    assert lead.hold()
    mine.now = 100.0 + LEASE_MS / 1000 - 0.01
    assert lead.holds
    mine.now = 100.0 + LEASE_MS / 1000
    assert not lead.holds
    assert lead.hold(), "renewed, since the database's clock has not moved"
    renewed = mine.now - 1.0
    mine.now = renewed + LEASE_MS / 1000
    assert not lead.holds
    lead.resign()


# -- what operators write -------------------------------------------------------------------------------------------


def periodic(name: str, **facts: Any) -> PeriodicTask:
    """A periodic task as an operator's SQL might leave it: nothing is validated."""
    given = {"name": name, "task": "tests.note", **facts}
    if not {"interval", "crontab", "clocked"} & set(facts):
        given["interval"] = IntervalSchedule.objects.get_or_create(every=1, period="hours")[0]
    return PeriodicTask.objects.bulk_create([PeriodicTask(**given)])[0]


def interval(every: int, period: str) -> dict[str, Any]:
    return {"interval": IntervalSchedule.objects.bulk_create([IntervalSchedule(every=every, period=period)])[0]}


def crontab(**fields: str) -> dict[str, Any]:
    return {"crontab": CrontabSchedule.objects.bulk_create([CrontabSchedule(**fields)])[0]}


HOSTILE: dict[str, tuple[Any, str]] = {
    "half of a JSON array": (lambda: {"args": "[1,"}, "arguments are not JSON"),
    "not a number": (lambda: {"args": "[NaN]"}, "arguments are not JSON"),
    "an object for an array": (lambda: {"args": '{"a": 1}'}, "no JSON array"),
    "an array for an object": (lambda: {"kwargs": "[1]"}, "no JSON object"),
    "very deep JSON": (lambda: {"args": "[" * 100_000}, "arguments are not JSON"),
    "NUL": (lambda: {"args": '["\\u0000"]'}, "unsupported Unicode"),
    "half a surrogate pair": (lambda: {"args": '["\\ud800"]'}, "invalid input syntax"),
    "the 30th of February": (lambda: crontab(day_of_month="30", month_of_year="2"), "never occurs"),
    "a 61st minute": (lambda: crontab(minute="61"), "Invalid end range"),
    "steps of nothing": (lambda: crontab(minute="*/0"), "cannot be zero"),
    "no minute": (lambda: crontab(minute=""), "empty part"),
    "an interval of less than nothing": (lambda: interval(-5, "seconds"), "no interval of -5"),
    "an interval of nothing": (lambda: interval(0, "seconds"), "no interval of 0"),
    "an interval of fortnights": (lambda: interval(1, "fortnights"), "no interval of 1 fortnights"),
    "an interval of six million years": (lambda: interval(2**31 - 1, "days"), "end of the calendar"),
    "no schedule at all": (lambda: {"interval": None}, "not supported"),
}


def test_what_makes_no_sense_is_named_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
    database: Database,
    beat: Scheduler,
    told: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with declaring(monkeypatch):
        scheduled(cron=YEARLY, name="in code")(lambda: None)
    for name, (facts, _) in HOSTILE.items():
        periodic(name, **facts())
    periodic("a microsecond", **interval(1, "microseconds"))
    periodic("in time", clocked=ClockedSchedule.objects.create(clocked_time=NOON))
    periodic("unknown", task="no.such.task")
    periodic("good")
    periodic("in code")
    caplog.set_level(logging.WARNING, "waystation")
    beat._tick()
    beat._tick()
    for name, (_, why) in HOSTILE.items():
        [said] = [each for each in caplog.records if getattr(each, "task", "") == name]
        assert why in getattr(said, "error", ""), name
    assert "a periodic task has the name of a task in code" in caplog.text
    due = database.rows("select name from scheduling_scheduledtask where next_due is not null and is_declared")
    assert {name for (name,) in due} == {"a microsecond", "good", "in code", "unknown"}
    assert database.states("in time") == ["ready"], "its time was in the past, so it was due at once"

    for name in ("good", "unknown", "in code"):
        database.make_due(name)
    beat._tick()
    assert [database.states(name) for name in ("good", "unknown", "in code")] == [["ready"]] * 3
    assert set(told) == {run for (run,) in database.rows("select id from scheduling_run")}
    performer = Performer()
    [(unknown,)] = database.rows("select id from scheduling_run where function = 'unknown'")
    performer.perform(unknown)
    performer.close()
    [(state, error)] = database.rows("select state, error from scheduling_run where id = %s", unknown)
    assert state == "failed"
    assert "no.such.task" in error


def test_periodic_tasks_that_django_cannot_read_stay_as_they_were(
    database: Database, beat: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    periodic("good")
    periodic("on mars", **crontab(minute="5"))
    beat._tick()
    database.do("update django_celery_beat_crontabschedule set timezone = 'Mars/Olympus_Mons'")
    database.make_due("good")
    beat._tick()
    assert "periodic tasks cannot be read" in caplog.text
    assert database.states("good") == ["ready"]
    assert database.task("on mars", "is_declared")


UNREADABLE = {
    "a list": ("spec", "[]"),
    "no period": ("spec", "{}"),
    "a period of nothing": ("spec", '{"period_ms": 0, "initial_delay_ms": 0}'),
    "a period in words": ("spec", '{"period_ms": "hour", "initial_delay_ms": 0}'),
    "an endless period": ("spec", '{"period_ms": 1e300, "initial_delay_ms": 0}'),
    "of another release": ("kind", "lunar"),
    "options of nothing": ("options", "null"),
    "jitter in words": ("options", '{"jitter_ms": "some"}'),
}


def test_a_row_that_cannot_be_read_is_put_aside(
    monkeypatch: pytest.MonkeyPatch, database: Database, beat: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    def declare_all() -> None:
        with declaring(monkeypatch):
            for name in (*UNREADABLE, "good"):
                scheduled(fixed_rate="PT1H", initial_delay="PT1H", name=name)(lambda: None)

    declare_all()
    for name, (column, value) in UNREADABLE.items():
        database.do(f"update scheduling_scheduledtask set {column} = %s where name = %s", value, name)
    for name in (*UNREADABLE, "good"):
        database.make_due(name)
    beat._tick()
    assert database.states("good") == ["ready"]
    said = {getattr(each, "task", "") for each in caplog.records if "cannot be read" in each.message}
    assert said == set(UNREADABLE)
    for name in UNREADABLE:
        assert (database.states(name), database.task(name, "is_declared")) == ([], False)
        assert "cannot be read" in database.task(name, "note")
    declare_all()
    assert all(database.task(name, "is_declared") for name in UNREADABLE), "the next start declares them again"


def test_two_thousand_periodic_tasks_are_taken_over_while_others_fire(
    monkeypatch: pytest.MonkeyPatch, database: Database, beat: Scheduler
) -> None:
    monkeypatch.setattr(mirror, "WRITE_SECONDS", 0.0)
    hourly = IntervalSchedule.objects.create(every=1, period="hours")
    PeriodicTask.objects.bulk_create(
        PeriodicTask(name=f"many-{n}", task="tests.note", interval=hourly) for n in range(2000)
    )
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", initial_delay="PT1H", name="good")(lambda: None)
    database.make_due("good")
    beat._tick()
    assert database.states("good") == ["ready"]

    def mirrored() -> int:
        [(count,)] = database.rows("select count(*) from scheduling_scheduledtask where source = 'operator'")
        return int(count)

    assert 0 < mirrored() <= 2000
    deadline = time.monotonic() + 60
    while mirrored() < 2000:
        assert time.monotonic() < deadline
        beat._tick()
    PeriodicTask.objects.filter(name__endswith="7").delete()
    database.do("update scheduling_scheduledtask set next_due = clock_timestamp() where source = 'operator'")
    beat._tick()
    fired = database.rows("select function from scheduling_run where function like 'many-%%'")
    assert 0 < len(fired) <= scheduler.MAX_FIRED
    assert not [name for (name,) in fired if name.endswith("7")], "what was deleted while it was due"


# -- a Redis that is away -------------------------------------------------------------------------------------------


def bell(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Has the doorbell look for Redis there."""
    connection = app.connection_for_write(f"redis://127.0.0.1:{port}/0", transport_options=ringing._PATIENCE)
    monkeypatch.setattr(ringing, "_producers", lambda: pools.producers[connection])


def test_a_redis_that_hangs_does_not_keep_a_beat_from_renewing_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bell(monkeypatch, silent.getsockname()[1])
        for several in ([1], [1, 2]):
            found = Doorbell()
            began = time.monotonic()
            assert not (found.ring_all(several) if len(several) > 1 else found.ring(1))
            assert time.monotonic() - began < LEASE_MS / 1000 - leadership.RENEW_SECONDS
            began = time.monotonic()
            assert found.ring_all(several) == []
            assert time.monotonic() - began < 0.1, "nor is it tried again at once"


def test_runs_are_told_of_when_redis_is_back_and_done_once(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    calls: list[int] = []
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="noted")(lambda: calls.append(1))
    lead = Leadership()
    assert lead.hold()
    own = Doorbell()
    monkeypatch.setattr(sweeping, "doorbell", own)
    run = database.fire_at_once(lead, "noted")
    with monkeypatch.context() as away, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        bell(away, port)
        sweeping.sweep(database.own)
        assert runs.unrung(database.own) == [run]
    with redis.Redis.from_url(settings.REDIS_URL) as store_of_rings:
        store_of_rings.delete(queue_name())
        own._silent_until = 0.0
        sweeping.sweep(database.own)
        sweeping.sweep(database.own)
        rings: Any = store_of_rings.lrange(queue_name(), 0, -1)
        store_of_rings.delete(queue_name())
    assert [json.loads(ring)["headers"]["task"] for ring in rings] == [TASK]
    performer = Performer()
    performer.perform(run)
    performer.perform(run)
    performer.close()
    lead.resign()
    assert (calls, database.states("noted")) == ([1], ["succeeded"])
