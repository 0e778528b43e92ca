"""A replay's pace: its rate over any window, what may be under way, its canary and its stop rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.errors import InvalidValue
from brokers.replays import pacing
from brokers.replays.request import Canary, Edit, Pace, Target

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
rates = st.floats(0.01, 20_000, allow_nan=False)


@given(rates, st.lists(st.floats(0.0, 5.0), max_size=60))
def test_no_more_is_sent_than_the_rate_allows_however_often_one_looks(rate: float, pauses: list[float]) -> None:
    spent, now, sent = None, NOON, 0
    for pause in pauses:
        now += timedelta(seconds=pause)
        budget = pacing.budget(rate, spent, now)
        items = min(budget.items, pacing.CHUNK)
        if items:
            sent += items
            spent = budget.spent(items)
        elapsed = (now - NOON).total_seconds()
        assert sent <= rate * (elapsed + 1.0) + 1


@given(st.floats(0.5, 5_000))
def test_one_who_looks_when_told_sends_at_the_full_rate(rate: float) -> None:
    spent, now, sent, looks = None, NOON, 0, 0
    while (now - NOON).total_seconds() < 20:
        budget = pacing.budget(rate, spent, now)
        items = min(budget.items, pacing.CHUNK)
        if items:
            sent += items
            spent = budget.spent(items)
        else:
            now += timedelta(seconds=budget.seconds_to_next() + 1e-5)
        looks += 1
    assert sent >= rate * 19 - 1
    assert looks < 2500, "it does not look again and again for one item"


def test_after_a_long_pause_one_second_is_made_up_for() -> None:
    assert pacing.budget(100.0, NOON - timedelta(hours=1), NOON).items == 100
    assert pacing.budget(0.1, NOON - timedelta(hours=1), NOON).items == 1
    assert pacing.budget(0.1, NOON + timedelta(hours=1), NOON).items == 0, "a clock that was set back"
    assert pacing.budget(None, None, NOON).items == pacing.CHUNK
    assert pacing.budget(None, None, NOON).spent(5) is None
    assert pacing.budget(None, None, NOON).seconds_to_next() == 0.0


@pytest.mark.parametrize(
    ("under_way", "careful", "expected"), [(0, False, 2000), (1999, False, 1), (2500, False, 0), (150, True, 50)]
)
def test_what_may_be_under_way_is_bounded(under_way: int, careful: bool, expected: int) -> None:
    assert pacing.room(under_way, careful) == expected


@pytest.mark.parametrize(
    ("outcomes", "failed", "share", "stops"),
    [
        (9, 9, 0.2, False),
        (10, 2, 0.2, False),
        (10, 3, 0.2, True),
        (50, 10, 0.2, False),
        (50, 11, 0.2, True),
        (10, 1, 0.0, True),
    ],
)
def test_the_stop_rule(outcomes: int, failed: int, share: float, stops: bool) -> None:
    assert pacing.stops(outcomes, failed, share) == stops


@pytest.mark.parametrize(
    ("succeeded", "failed", "least", "passes"),
    [(9, 1, 0.9, True), (8, 2, 0.9, False), (0, 0, 1.0, True), (0, 1, 0.0, True), (10, 0, 1.0, True)],
)
def test_a_canary(succeeded: int, failed: int, least: float, passes: bool) -> None:
    assert pacing.canary_passes(succeeded, failed, least) == passes


@pytest.mark.parametrize(
    ("pace", "pointers"),
    [
        (Pace(rate_per_second=0), ["/rate_per_second"]),
        (Pace(rate_per_second=float("nan")), ["/rate_per_second"]),
        (Pace(rate_per_second=1e9), ["/rate_per_second"]),
        (Pace(canary=Canary(0, 0.5)), ["/canary/count"]),
        (Pace(canary=Canary(5, 1.5), stop_when_failed_again=-0.1), ["/stop_when_failed_again", "/canary/min_success"]),
    ],
)
def test_a_pace_that_makes_no_sense_is_refused_with_all_that_is_wrong(pace: Pace, pointers: list[str]) -> None:
    with pytest.raises(InvalidValue) as caught:
        pace.checked()
    assert [pointer for pointer, _ in caught.value.errors] == pointers


def test_a_pace_that_makes_sense_is_taken() -> None:
    assert Pace(10.0, Canary(), 0.2).checked() == Pace(10.0, Canary(10, 0.9), 0.2)


@pytest.mark.parametrize("target", [Target(), Target(topic="a", queue="b"), Target(queue="a", exchange="b")])
def test_a_target_is_one_thing(target: Target) -> None:
    with pytest.raises(InvalidValue):
        target.checked()


def test_an_edit_must_be_something_that_can_be_stored() -> None:
    for edit in (Edit(encoding=7), Edit(key=b"k" * 9000), Edit(headers={"a": "\ud800"})):
        with pytest.raises(InvalidValue):
            edit.checked()
