"""Cron by the wall clock of a zone: both changes of the clock, and that no instant is skipped or doubled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.cron.zoned import CronSchedule
from tests.unit.scheduling.cron_strategies import texts


@pytest.mark.parametrize(
    ("zone", "text", "start", "firings"),
    [
        ("Europe/Amsterdam", "0 0 9 * * *", "2021-03-27T09:00+01:00", "2021-03-28T09:00+02:00"),
        ("Europe/Amsterdam", "0 0 9 * * *", "2021-10-30T09:00+02:00", "2021-10-31T09:00+01:00"),
        ("Europe/Amsterdam", "0 10 2 * * *", "2013-03-31T01:09+01:00", "2013-04-01T02:10+02:00"),
        ("Europe/Amsterdam", "0 5 0 * * *", "2021-03-28T01:00+01:00", "2021-03-29T00:05+02:00"),
        ("Europe/Amsterdam", "0 5 0 * * *", "2019-10-27T01:05+02:00", "2019-10-28T00:05+01:00"),
        (
            "Europe/Amsterdam",
            "0 30 2 * * *",
            "2021-10-30T12:00+02:00",
            "2021-10-31T02:30+02:00 2021-10-31T02:30+01:00 2021-11-01T02:30+01:00",
        ),
        ("Europe/Amsterdam", "0 30 2 * * *", "2021-03-27T12:00+01:00", "2021-03-29T02:30+02:00"),
        (
            "Europe/Amsterdam",
            "0 0 * * * *",
            "2021-10-31T01:00+02:00",
            "2021-10-31T02:00+02:00 2021-10-31T02:00+01:00 2021-10-31T03:00+01:00",
        ),
        ("Europe/Amsterdam", "0 0 * * * *", "2021-03-28T01:00+01:00", "2021-03-28T03:00+02:00"),
        # a time outside of the repeated hour fires once
        ("Europe/Amsterdam", "0 30 3 * * *", "2021-10-30T12:00+02:00", "2021-10-31T03:30+01:00 2021-11-01T03:30+01:00"),
        ("Europe/Amsterdam", "0 30 1 * * *", "2021-10-30T12:00+02:00", "2021-10-31T01:30+02:00 2021-11-01T01:30+01:00"),
        # midnight does not exist
        ("Africa/Cairo", "0 0 */2 * * ?", "2025-04-24T22:00+02:00", "2025-04-25T02:00+03:00"),
        ("Africa/Cairo", "0 0 0 * * *", "2025-04-24T12:00+02:00", "2025-04-26T00:00+03:00"),
        # half an hour
        (
            "Australia/Lord_Howe",
            "0 45 1 * * *",
            "2021-04-03T12:00+11:00",
            "2021-04-04T01:45+11:00 2021-04-04T01:45+10:30 2021-04-05T01:45+10:30",
        ),
        ("Australia/Lord_Howe", "0 30 2 * * *", "2021-10-02T12:00+10:30", "2021-10-03T02:30+11:00"),
        # a day that was left out
        ("Pacific/Apia", "0 0 8 30 12 *", "2011-12-01T00:00-10:00", "2012-12-30T08:00+14:00"),
        ("Pacific/Apia", "0 0 8 * * *", "2011-12-29T08:00-10:00", "2011-12-31T08:00+14:00"),
        ("America/New_York", "0 0 8 * * MON-FRI", "2026-10-30T12:00+00:00", "2026-11-02T13:00+00:00"),
    ],
)
def test_changes_of_the_clock(zone: str, text: str, start: str, firings: str) -> None:
    schedule, moment = CronSchedule(text, ZoneInfo(zone)), datetime.fromisoformat(start)
    for each in firings.split():
        found = schedule.next(moment)
        assert found is not None
        assert found.tzinfo is UTC
        assert found == datetime.fromisoformat(each)
        moment = found


def test_a_fraction_of_a_second_is_not_due_again() -> None:
    schedule = CronSchedule("* * * * * *")
    instant = datetime(2024, 1, 1, 12, 0, 0, 1, tzinfo=UTC)
    assert schedule.next(instant) == datetime(2024, 1, 1, 12, 0, 1, tzinfo=UTC)


def test_an_instant_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        CronSchedule("* * * * * *").next(datetime(2024, 1, 1))  # noqa: DTZ001 - what is refused


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_after_the_last_firing_there_is_none(zone: str) -> None:
    schedule = CronSchedule("0 0 0 1 1 *", ZoneInfo(zone))
    assert schedule.next(datetime(9999, 12, 31, 23, tzinfo=UTC)) is None
    assert CronSchedule("0 0 0 30 2 *", ZoneInfo(zone)).next(datetime(2024, 1, 1, tzinfo=UTC)) is None


_ZONES = [
    "Africa/Cairo",
    "America/Caracas",
    "America/New_York",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Pacific/Apia",
    "UTC",
]


def _changes() -> list[tuple[str, datetime]]:
    """Instants just about the changes of ten zones over thirty years."""
    found = []
    for name in _ZONES:
        zone, day = ZoneInfo(name), datetime(1995, 1, 1, tzinfo=UTC)
        while day.year < 2026:
            after = day + timedelta(days=1)
            if day.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
                found.append((name, day))
            day = after
    return found


_CHANGES = _changes()
_STARTS = st.tuples(st.sampled_from(_CHANGES), st.integers(-30, 40)).map(
    lambda pair: (ZoneInfo(pair[0][0]), pair[0][1] + timedelta(hours=pair[1]))
)


@given(texts(), _STARTS)
def test_firings_come_strictly_after_and_match(text: str, place: tuple[ZoneInfo, datetime]) -> None:
    zone, start = place
    schedule = CronSchedule(text, zone)
    for _ in range(4):
        found = schedule.next(start)
        if found is None:
            return
        assert found > start
        assert schedule.expression.matches(found.astimezone(zone).replace(tzinfo=None))
        start = found


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        ["0 */15 * * * *", "0 30 2 * * *", "0 0 */3 * * *", "0 0 0 * * *", "0 59 1,2 * * *", "0 20 0-3 * * *"]
    ),
    _STARTS,
)
def test_no_minute_about_a_change_is_skipped(text: str, place: tuple[ZoneInfo, datetime]) -> None:
    """Against a look at each minute of a day."""
    zone, start = place
    schedule = CronSchedule(text, zone)
    end = start + timedelta(days=1)
    scanned = [
        instant
        for count in range(1, 24 * 60)
        if schedule.expression.matches(
            (instant := start + timedelta(minutes=count)).astimezone(zone).replace(tzinfo=None, fold=0)
        )
    ]
    found = []
    firing = schedule.next(start)
    while firing is not None and firing < end:
        found.append(firing)
        firing = schedule.next(firing)
    assert found == scanned
