"""When tasks are due: each kind of schedule, and what a declaration refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from brokers.errors import InvalidValue
from scheduling.errors import InvalidSchedule
from scheduling.tasks import declared, triggers
from scheduling.tasks.declared import scheduled
from scheduling.tasks.triggers import Cron, FixedDelay, FixedRate, Once, Trigger

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _nothing_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "_declared", {})


def work() -> None:
    """A function to be scheduled."""


def other() -> None:
    """Another one."""


def test_a_fixed_rate_is_due_at_once_and_then_without_drift() -> None:
    rate = FixedRate(30_000)
    assert rate.first(NOON) == NOON
    assert rate.after(NOON, NOON + 0.4 * SECOND) == NOON + 30 * SECOND


def test_a_fixed_rate_makes_good_for_all_that_it_missed_with_one_run() -> None:
    assert FixedRate(10_000).after(NOON, NOON + 35 * SECOND) == NOON + 40 * SECOND


def test_a_fixed_rate_on_the_very_period_is_not_due_twice() -> None:
    assert FixedRate(10_000).after(NOON, NOON + 10 * SECOND) == NOON + 20 * SECOND


def test_a_clock_that_is_behind_the_due_time_moves_one_period() -> None:
    assert FixedRate(10_000).after(NOON, NOON - 5 * SECOND) == NOON + 10 * SECOND


def test_a_fixed_delay_is_due_again_only_after_its_run() -> None:
    delay = FixedDelay(10_000, initial_delay_ms=5000)
    assert delay.first(NOON) == NOON + 5 * SECOND
    assert delay.after(NOON, NOON) is None


def test_cron_is_due_by_the_wall_clock_of_its_zone() -> None:
    assert Cron("0 0 8 * * *", "America/New_York").first(NOON) == datetime(2026, 3, 2, 13, tzinfo=UTC)
    after_the_change = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)
    assert Cron("0 0 8 * * *", "America/New_York").after(NOON, after_the_change - SECOND) == after_the_change


def fired(trigger: Trigger, begin: datetime, end: datetime) -> list[str]:
    """When a beat that is never late fires it, as the wall clock of New York shows it."""
    found: list[str] = []
    due = trigger.first(begin)
    while due is not None and due < end:
        found.append(due.astimezone(triggers.zone_of("America/New_York")).strftime("%d %H:%M %Z"))
        due = trigger.after(due, due + 0.004 * SECOND)
    return found


@pytest.mark.parametrize(
    ("expression", "spring", "autumn"),
    [
        (
            "0 30 1 * * *",
            "07 01:30 EST|08 01:30 EST|09 01:30 EDT",
            "31 01:30 EDT|01 01:30 EDT|01 01:30 EST|02 01:30 EST",
        ),
        ("0 30 2 * * *", "07 02:30 EST|09 02:30 EDT", "31 02:30 EDT|01 02:30 EST|02 02:30 EST"),
        ("0 30 3 * * *", "07 03:30 EST|08 03:30 EDT|09 03:30 EDT", "31 03:30 EDT|01 03:30 EST|02 03:30 EST"),
    ],
)
def test_a_time_that_a_day_has_not_or_has_twice_fires_so_often(expression: str, spring: str, autumn: str) -> None:
    trigger = Cron(expression, "America/New_York")
    march, november = datetime(2026, 3, 7, 5, tzinfo=UTC), datetime(2026, 10, 31, 4, tzinfo=UTC)
    assert fired(trigger, march, march + timedelta(days=3)) == spring.split("|")
    assert fired(trigger, november, november + timedelta(days=3)) == autumn.split("|")


def test_what_was_missed_over_a_change_of_the_clock_is_made_good_for_by_one_run() -> None:
    """A beat was away from the evening before the change until the morning after."""
    trigger = Cron("0 30 2 * * *", "America/New_York")
    due, now = datetime(2026, 3, 7, 7, 30, tzinfo=UTC), datetime(2026, 3, 9, 4, tzinfo=UTC)
    assert trigger.after(due, now) == datetime(2026, 3, 9, 6, 30, tzinfo=UTC)


def test_cron_goes_on_from_now_and_not_from_what_it_missed() -> None:
    assert Cron("0 0 * * * *").after(NOON, NOON + timedelta(hours=5, minutes=1)) == NOON + timedelta(hours=6)


def test_once_is_due_one_time() -> None:
    assert Once(2000).first(NOON) == NOON + 2 * SECOND
    assert Once(at="2026-05-01T00:00:00+02:00").first(NOON) == datetime(2026, 4, 30, 22, tzinfo=UTC)
    assert Once(2000).after(NOON, NOON) is None


@pytest.mark.parametrize(
    "trigger",
    [
        FixedRate(30_000, 5),
        FixedDelay(10, 7),
        Cron("0 0 8 * * MON-FRI", "Europe/Berlin"),
        Once(50),
        Once(at="2026-05-01T00:00:00+00:00"),
    ],
)
def test_the_database_gives_a_schedule_back_as_it_was(trigger: Trigger) -> None:
    assert triggers.from_spec(trigger.kind, trigger.spec()) == trigger


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("lunar", {}),
        ("fixed_rate", {}),
        ("fixed_rate", []),
        ("fixed_rate", {"period_ms": 0, "initial_delay_ms": 0}),
        ("fixed_rate", {"period_ms": "1000", "initial_delay_ms": 0}),
        ("fixed_rate", {"period_ms": 1000.5, "initial_delay_ms": 0}),
        ("fixed_delay", {"delay_ms": -1, "initial_delay_ms": 0}),
        ("once", {}),
        ("once", {"at": 5}),
        ("cron", {"cron": ["@daily"], "zone": "UTC"}),
        ("cron", {"cron": "x", "zone": "UTC"}),
        ("cron", {"cron": "@daily", "zone": "X"}),
    ],
)
def test_a_schedule_that_no_release_has_written_is_refused(kind: str, spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidSchedule):
        triggers.from_spec(kind, spec)


def test_the_next_due_times_are_told() -> None:
    assert triggers.upcoming(FixedRate(1000), NOON, 3) == [NOON, NOON + SECOND, NOON + 2 * SECOND]
    assert triggers.upcoming(FixedDelay(1000), NOON, 3) == [NOON]
    assert triggers.upcoming(FixedDelay(1000), None, 3) == []


@pytest.mark.parametrize(
    ("trigger", "due"),
    [
        (FixedRate(60_000), NOON + 360 * SECOND),
        (Cron("0 * * * * *"), NOON + 360 * SECOND),
        (FixedDelay(60_000), NOON),
        (Once(5), NOON),
    ],
)
def test_what_passed_in_a_pause_is_not_made_good(trigger: Trigger, due: datetime) -> None:
    assert triggers.resumed(trigger, NOON, NOON + 330 * SECOND) == due
    assert triggers.resumed(trigger, NOON + 400 * SECOND, NOON + 330 * SECOND) == NOON + 400 * SECOND
    assert triggers.resumed(trigger, None, NOON) is None


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        (FixedRate(30_000), "Every 30 seconds"),
        (FixedDelay(10_000), "10 seconds after the end of each run"),
        (Once(5000), "Once, 5 seconds after the first start"),
    ],
)
def test_schedules_are_told_in_words(trigger: Trigger, words: str) -> None:
    assert trigger.words() == words


def test_a_declaration_keeps_all_that_it_says() -> None:
    assert scheduled(cron="0 0 8 * * *", zone="Europe/Berlin", lock="report", timeout="PT5S", jitter="2s")(work) is work
    (found,) = declared.declarations()
    assert found.name == f"{__name__}.work"
    assert found.trigger == Cron("0 0 8 * * *", "Europe/Berlin")
    assert found.options() == {
        "timeout_ms": 5000,
        "jitter_ms": 2000,
        "lock": {"name": "report", "at_most_for_ms": 600_000, "at_least_for_ms": 0},
    }


def test_one_function_may_have_several_schedules() -> None:
    scheduled(fixed_rate="1s", name="often")(scheduled(cron="@daily", name="daily")(work))
    assert [each.name for each in declared.declarations()] == ["daily", "often"]


def test_a_dash_disables_a_task() -> None:
    assert scheduled(cron="-")(work) is work
    assert declared.declarations() == []


def test_two_functions_of_one_name_are_refused() -> None:
    scheduled(fixed_rate="1s", name="same")(work)
    scheduled(fixed_rate="2s", name="same")(work)
    with pytest.raises(InvalidSchedule, match="two tasks are named 'same'"):
        scheduled(fixed_rate="1s", name="same")(other)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "exactly one"),
        ({"fixed_rate": "1s", "cron": "@daily"}, "exactly one"),
        ({"fixed_rate": "1s", "fixed_delay": "1s"}, "exactly one"),
        ({"cron": "@daily", "initial_delay": "1s"}, "no initial_delay"),
        ({"cron": "0 0 25 * * *"}, "hour"),
        ({"cron": "@daily", "zone": "Mars/Olympus"}, "no time zone"),
        ({"fixed_rate": 0}, "at least 100 ms"),
        ({"fixed_rate": "soon"}, "not a duration"),
        ({"fixed_rate": "1s", "overlap": "maybe"}, "overlap is one of"),
        ({"fixed_rate": "1s", "misfire": "maybe"}, "misfire is one of"),
        ({"fixed_rate": "1s", "timeout": 0}, "timeout"),
        ({"fixed_rate": "1s", "lock": ""}, "lock's name"),
        ({"fixed_rate": "1s", "lock": "x", "lock_at_most_for": "1s", "lock_at_least_for": "2s"}, "longer than"),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_declared(arguments: dict[str, Any], why: str) -> None:
    declare: Callable[..., Any] = scheduled
    with pytest.raises(InvalidValue, match=why):
        declare(**arguments)(work)


def test_a_coroutine_cannot_be_scheduled() -> None:
    async def coroutine() -> None: ...

    with pytest.raises(InvalidSchedule, match="async"):
        scheduled(fixed_rate="1s")(coroutine)
