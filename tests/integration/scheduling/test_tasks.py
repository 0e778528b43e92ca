"""Declaring and firing tasks: each due time has one run, whoever fires it and whatever changes meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from brokers.audit import Actor
from brokers.errors import Conflict
from brokers.models import AuditEntry
from scheduling import runs, scheduled
from scheduling.beat.leadership import Leadership
from scheduling.connections import OwnConnection
from scheduling.errors import InvalidSchedule, TaskNotFound
from scheduling.tasks import control, store
from scheduling.tasks.store import Firing
from scheduling.tasks.triggers import Cron
from tests.integration.scheduling.ticking import Database, declaring

pytestmark = pytest.mark.django_db(transaction=True)

ADMIN = Actor("admin", "console")


def work() -> None:
    """What is scheduled here."""


# -- leadership -----------------------------------------------------------------------------------------------------


def test_one_beat_leads_until_it_resigns(leads: Leadership) -> None:
    other = Leadership()
    assert not other.hold()
    leads.resign()
    assert other.hold()
    assert not leads.hold()
    other.resign()


def test_a_beat_that_lost_the_lead_notices_and_may_lead_again(leads: Leadership, database: Database) -> None:
    database.do("update shedlock set lock_until = timezone('utc', now()), locked_by = 'another'")
    assert leads.hold()
    leads.doubt()
    assert leads.hold(), "the lock was free, so it took it anew"
    database.do("update shedlock set lock_until = lock_until + interval '1 minute', locked_by = 'another'")
    leads.doubt()
    assert not leads.hold()
    assert not leads.holds


# -- declaring ------------------------------------------------------------------------------------------------------


def test_an_unchanged_schedule_goes_on_over_a_deployment(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", initial_delay="PT5M", name="hourly")(work)
    due = database.task("hourly", "next_due")
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", initial_delay="PT5M", name="hourly", overlap="queue")(work)
    assert database.task("hourly", "next_due") == due
    assert database.task("hourly", "overlap") == "queue"


def test_a_changed_schedule_begins_anew(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", initial_delay="PT5M", name="hourly")(work)
    due = database.task("hourly", "next_due")
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT2H", initial_delay="PT5M", name="hourly")(work)
    assert database.task("hourly", "next_due") > due


def test_a_task_that_is_not_declared_any_more_is_not_due(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="gone")(work)
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="stays")(work)
    database.make_due("gone")
    database.make_due("stays")
    database.fire(leads)
    assert (database.states("gone"), database.states("stays")) == ([], ["ready"])


def test_a_task_that_comes_back_does_not_make_good_for_its_absence(
    monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    with declaring(monkeypatch):
        scheduled(cron="0 0 0 1 1 *", name="yearly")(work)
    with declaring(monkeypatch):
        pass
    database.make_due("yearly", "3 days")
    with declaring(monkeypatch):
        scheduled(cron="0 0 0 1 1 *", name="yearly")(work)
    assert database.task("yearly", "next_due") == Cron("0 0 0 1 1 *").first(store.database_now(database.own))


def test_a_task_with_the_name_of_an_operators_one_is_said_not_to_run(
    monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="taken")(work)
    database.do("update scheduling_scheduledtask set source = 'operator'")
    from scheduling.tasks import declared

    assert store.declare(declared.declarations()) == [
        "scheduled task taken does not run: an operator's periodic task has its name"
    ]


def test_a_schedule_that_cannot_be_read_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="odd")(work)
        scheduled(fixed_rate="PT1H", name="fine")(work)
    database.do("update scheduling_scheduledtask set kind = 'lunar' where name = 'odd'")
    database.fire(leads)
    assert (database.states("odd"), database.states("fine")) == ([], ["ready"])
    assert not database.task("odd", "is_declared")


# -- firing ---------------------------------------------------------------------------------------------------------


def test_a_due_time_has_one_run_even_when_many_fire_it_at_once(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    with declaring(monkeypatch):
        for number in range(20):
            scheduled(fixed_rate="PT1H", name=f"task {number}", overlap="allow")(work)
    due = store.due_before(database.own, store.database_now(database.own), 100)
    firings = [store.firing(each, each.due) for each in due]

    def fire(order: int) -> int:
        own = OwnConnection(f"beat {order}")
        try:
            return len(store.fire(own, leads.me, firings[order:] + firings[:order]))
        finally:
            own.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(fire, range(4))) == 20
    assert database.rows("select count(*), count(distinct task_id) from scheduling_run") == [(20, 20)]


def test_who_does_not_lead_fires_nothing(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="hourly")(work)
    leads.resign()
    assert database.fire(leads) == []
    assert database.states("hourly") == []


def test_a_due_time_that_was_changed_meanwhile_is_not_fired(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="hourly")(work)
    (due,) = store.due_before(database.own, store.database_now(database.own), 10)
    earlier = due.due - timedelta(seconds=1)
    assert store.fire(database.own, leads.me, [Firing(due.id, earlier, None, earlier, False)]) == []
    control.set_paused("hourly", True, actor=ADMIN)
    assert store.fire(database.own, leads.me, [store.firing(due, due.due)]) == []


def test_a_due_time_is_skipped_while_the_run_before_has_not_ended(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="slow")(work)
    attempt = database.claimed(database.fire_at_once(leads, "slow"))
    database.fire_at_once(leads, "slow")
    assert database.states("slow") == ["running", "skipped"]
    runs.finish(database.own, attempt, runs.SUCCEEDED)
    database.fire_at_once(leads, "slow")
    assert database.states("slow") == ["succeeded", "skipped", "ready"]


def test_queued_runs_go_one_at_a_time_in_their_order(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="queued", overlap="queue")(work)
    first, second, third = (database.fire_at_once(leads, "queued") for _ in range(3))
    assert database.claim(second) is None, "the first has not run"
    attempt = database.claimed(first)
    assert database.claim(second) is None, "the first is running"
    assert runs.unrung(database.own) == [], "nobody is told of what cannot begin"
    runs.finish(database.own, attempt, runs.SUCCEEDED)
    assert runs.next_of_task(database.own, attempt.task_id or 0) == second
    assert runs.unrung(database.own) == [second]
    assert database.claim(third) is None
    runs.finish(database.own, database.claimed(second), runs.FAILED, error="no")
    assert database.claim(third) is not None


def test_runs_that_may_overlap_do(monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="wide", overlap="allow")(work)
    first, second = (database.fire_at_once(leads, "wide") for _ in range(2))
    assert database.claim(second) is not None
    assert database.claim(first) is not None


def test_of_many_missed_due_times_one_is_made_good(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1M", name="behind")(work)
    database.make_due("behind", "1 hour")
    database.fire(leads)
    database.fire(leads)
    assert database.states("behind") == ["ready"]
    assert database.task("behind", "next_due") > store.database_now(database.own)


def test_missed_due_times_are_not_made_good_where_that_is_said(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1M", name="behind", misfire="skip")(work)
        scheduled(fixed_rate="PT1M", name="a little late", misfire="skip")(work)
    database.make_due("behind", "1 hour")
    database.make_due("a little late", "2 s")
    database.fire(leads)
    assert (database.states("behind"), database.states("a little late")) == (["skipped"], ["ready"])


def test_jitter_puts_the_start_off_and_not_the_due_time(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="spread", jitter="PT1H")(work)
    due = database.task("spread", "next_due")
    (fired,) = database.fire(leads)
    assert due <= fired.start <= due + timedelta(hours=1)
    assert database.rows("select due_at from scheduling_run") == [(due,)]
    assert database.claim(fired.run) is None


# -- fixed delay ----------------------------------------------------------------------------------------------------


@pytest.fixture
def delayed(monkeypatch: pytest.MonkeyPatch) -> str:
    with declaring(monkeypatch):
        scheduled(fixed_delay="PT1H", name="delayed")(work)
    return "delayed"


def test_a_fixed_delay_counts_from_the_end_of_the_run(delayed: str, database: Database, leads: Leadership) -> None:
    attempt = database.claimed(database.fire_at_once(leads, delayed))
    assert database.task(delayed, "next_due") is None
    assert store.revive(database.own) == 0
    runs.finish(database.own, attempt, runs.FAILED)
    ((ended,),) = database.rows("select ended_at from scheduling_run")
    assert database.task(delayed, "next_due") - ended == pytest.approx(timedelta(hours=1), abs=timedelta(seconds=0.5))


def test_a_fixed_delay_goes_on_after_its_worker_was_lost(delayed: str, database: Database, leads: Leadership) -> None:
    attempt = database.claimed(database.fire_at_once(leads, delayed))
    database.do("update scheduling_run set lease_until = clock_timestamp() - interval '1 s'")
    assert runs.lose(database.own) == 1
    assert database.states(delayed) == ["lost"]
    assert store.revive(database.own) == 1
    assert database.task(delayed, "next_due") is not None
    assert not runs.finish(database.own, attempt, runs.SUCCEEDED), "who wakes up again has lost it"


def test_an_operators_run_does_not_begin_the_delay_of_the_scheduled_one(
    delayed: str, database: Database, leads: Leadership
) -> None:
    scheduled_run = database.fire_at_once(leads, delayed)
    attempt = database.claimed(scheduled_run)
    extra = control.run_now(delayed, actor=ADMIN)
    runs.finish(database.own, attempt, runs.SUCCEEDED)
    assert database.task(delayed, "next_due") is None, "another of its runs is open"
    runs.finish(database.own, database.claimed(extra), runs.SUCCEEDED)
    assert database.task(delayed, "next_due") is not None


# -- what operators do ----------------------------------------------------------------------------------------------


def test_a_paused_task_is_not_due_and_does_not_make_good_for_the_pause(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="hourly")(work)
    control.set_paused("hourly", True, "for a while", actor=ADMIN)
    database.make_due("hourly", "90 min")
    due = database.task("hourly", "next_due")
    assert database.fire(leads) == []
    assert (control.get("hourly").paused, control.get("hourly").note) == (True, "for a while")
    assert control.get("hourly").upcoming() == []
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", name="hourly")(work)
    assert control.get("hourly").paused, "a deployment does not end it"
    assert control.set_paused("hourly", False, actor=ADMIN)
    assert not control.set_paused("hourly", False, actor=ADMIN), "it goes on already"
    assert control.get("hourly").note == "", "the note was the pause's"
    assert database.task("hourly", "next_due") == due + timedelta(hours=2)
    entries = AuditEntry.objects.filter(resource_type="schedule", resource="hourly").order_by("id")
    assert [(entry.principal, entry.operation) for entry in entries] == [("admin", "pause"), ("admin", "resume")]
    assert entries[0].details == {"before": "", "note": "for a while"}


def test_the_next_due_time_is_left_out_once_and_the_history_says_so(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    with declaring(monkeypatch):
        scheduled(fixed_rate="PT1H", initial_delay="PT1H", name="hourly")(work)
        scheduled(fixed_delay="PT1M", initial_delay="PT1H", name="pausing")(work)
    for name, later in (("hourly", timedelta(hours=1)), ("pausing", timedelta(minutes=1))):
        due = database.task(name, "next_due")
        assert control.skip_next(name, due, actor=ADMIN) == due + later == database.task(name, "next_due")
        (run,) = control.history(name)
        assert (run.state, run.due_at, run.error, run.called_by) == ("skipped", due, "skipped by admin", "admin")
        with pytest.raises(Conflict, match="look again"):
            control.skip_next(name, due, actor=ADMIN)
        assert [entry.operation for entry in AuditEntry.objects.filter(resource=name)] == ["skip"]
    database.make_due("hourly")
    assert len(database.fire(leads)) == 1, "the one after it is fired"


def test_what_is_paused_or_due_one_time_only_cannot_be_skipped(
    monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    with declaring(monkeypatch):
        scheduled(initial_delay="PT1H", name="once")(work)
        scheduled(fixed_rate="PT1H", name="hourly")(work)
    with pytest.raises(InvalidSchedule, match="one time only"):
        control.skip_next("once", database.task("once", "next_due"), actor=ADMIN)
    control.set_paused("hourly", True, actor=ADMIN)
    with pytest.raises(Conflict):
        control.skip_next("hourly", database.task("hourly", "next_due"), actor=ADMIN)
    with pytest.raises(TaskNotFound):
        control.skip_next("nobody", database.task("hourly", "next_due"), actor=ADMIN)


def test_a_task_runs_when_an_operator_says_so(
    monkeypatch: pytest.MonkeyPatch, database: Database, leads: Leadership
) -> None:
    with declaring(monkeypatch):
        scheduled(cron="0 0 0 1 1 *", name="yearly")(work)
    due = database.task("yearly", "next_due")
    control.set_paused("yearly", True, actor=ADMIN)
    run = control.run_now("yearly", actor=ADMIN)
    runs.finish(database.own, database.claimed(run), runs.SUCCEEDED, result={"rows": 3})
    assert AuditEntry.objects.get(resource="yearly", operation="run").details == {"run": run}
    (told,) = control.history("yearly")
    assert (told.id, told.state, told.trigger, told.called_by, control.run("yearly", told.id).result) == (
        run,
        "succeeded",
        "operator",
        "admin",
        {"rows": 3},
    )
    assert database.task("yearly", "next_due") == due
    last = control.get("yearly").last_run
    assert last is not None
    assert last.id == run


def test_tasks_come_in_pages_by_name(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    with declaring(monkeypatch):
        for name in ("a", "b", "c"):
            scheduled(cron="0 0 8 * * *", name=name)(work)
    assert [each.name for each in control.page(limit=2)[0]] == ["a", "b"]
    assert control.page(limit=2)[1] == "b"
    assert [each.name for each in control.page(after="b")[0]] == ["c"]
    assert len(control.get("a").upcoming()) == 5
    assert control.get("a").words()


def test_what_is_not_there_cannot_be_changed(database: Database) -> None:
    for act in (
        lambda: control.get("none"),
        lambda: control.run_now("none", actor=ADMIN),
        lambda: control.set_paused("none", True, actor=ADMIN),
    ):
        with pytest.raises(TaskNotFound):
            act()
    with pytest.raises(InvalidSchedule):
        control.set_paused("none", True, "x" * 501, actor=ADMIN)
