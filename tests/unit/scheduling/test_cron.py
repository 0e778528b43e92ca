"""Cron by the wall clock: Spring's own published cases, what it refuses, and what holds of any expression."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.cron.expression import CronExpression, parse
from scheduling.errors import InvalidCron
from tests.unit.scheduling.cron_strategies import expressions, wall_times


def following(text: str, start: str, count: int) -> list[str]:
    """The next firings strictly after a wall time, each as ISO text."""
    expression, moment, found = parse(text), datetime.fromisoformat(start), []
    for _ in range(count):
        following = expression.next_or_same(moment + timedelta(seconds=1))
        if following is None:
            found.append("never")
            break
        found.append(following.isoformat())
        moment = following
    return found


@pytest.mark.parametrize(
    ("text", "start", "firings"),
    [
        ("0 0 0 L-3 * *", "2008-01-04", "2008-01-28 2008-02-26 2008-03-28 2008-04-27"),
        ("0 0 0 15W * ?", "2020-01-01", "2020-01-15 2020-02-14 2020-03-16 2020-04-15"),
        ("0 0 0 1W * ?", "2019-12-31", "2020-01-01 2020-02-03 2020-03-02 2020-04-01"),
        ("0 0 0 1W * ?", "2022-01-01", "2022-01-03"),
        ("0 0 0 1W * ?", "2021-08-01", "2021-08-02"),
        ("0 0 0 31W * ?", "2020-01-01", "2020-01-31 2020-03-31"),
        ("0 0 0 ? * 3#5", "2020-01-01", "2020-01-29 2020-04-29 2020-07-29 2020-09-30"),
        ("0 15 12 */10 1-8 5", "2021-04-30T12:14:59", "2021-05-21T12:15 2021-06-11T12:15 2022-01-21T12:15"),
        ("0 0 0 ? * SUN-FRI", "2021-02-25T15:00", "2021-02-26 2021-02-28"),
        ("3-57 13-28 17,18 1,15 3-12 6#1", "2022-09-15T17:44:11", "2022-10-01T17:13:03"),
        ("*/28 56 22 */6 * *", "2022-02-27T08:00:42", "2022-03-01T22:56:00"),
        ("0 0 0 31 6 *", "2020-01-01", "never"),
        ("0 0 0 29 2 *", "2007-02-10", "2008-02-29 2012-02-29"),
        # the month's last weekday, also where the month ends with a weekend
        ("0 0 0 LW * *", "2022-04-01", "2022-04-29 2022-05-31 2022-06-30 2022-07-29"),
        ("0 0 0 L * *", "2023-12-31", "2024-01-31 2024-02-29 2024-03-31"),
        ("0 0 0 ? * 5L", "2021-01-01", "2021-01-29 2021-02-26"),
        ("0 0 0 ? * friL", "2021-01-01", "2021-01-29 2021-02-26"),
        ("0 0 0 ? * MON#1", "2021-01-01", "2021-01-04 2021-02-01"),
        ("0 0 0 1W,15,LW * ?", "2019-12-31", "2020-01-01 2020-01-15 2020-01-31 2020-02-03"),
        ("0 0 0 ? * MON#1,FRI", "2021-01-01", "2021-01-04 2021-01-08"),
        # a Sunday that is the month's last day is nearest to no weekday of it
        ("0 0 0 31W * ?", "2022-07-01", "2022-08-31"),
        # both fields of days must match
        ("0 0 0 13 * FRI", "2021-01-01", "2021-08-13 2022-05-13"),
        # Monday is the first of `*`
        ("0 0 0 ? * */4", "2021-03-01", "2021-03-05 2021-03-08 2021-03-12"),
        ("0 0 0 ? * 0/2", "2021-03-01", "2021-03-02 2021-03-04 2021-03-06 2021-03-07 2021-03-09"),
        # 29 February on a Monday
        ("0 0 0 29 2 1", "2072-03-01", "2112-02-29"),
        ("@yearly", "2021-03-01", "2022-01-01 2023-01-01"),
        ("@annually", "2021-03-01", "2022-01-01"),
        ("@monthly", "2021-03-01", "2021-04-01"),
        ("@weekly", "2021-03-01", "2021-03-07"),
        ("@daily", "2021-03-01", "2021-03-02"),
        (" @MidNight ", "2021-03-01", "2021-03-02"),
        ("@hourly", "2021-03-01", "2021-03-01T01:00"),
        ("0 0  0 1   1 *", "2021-03-01", "2022-01-01"),
        ("0 0 0 L-31 * *", "2021-03-01", "never"),
    ],
)
def test_springs_vectors(text: str, start: str, firings: str) -> None:
    expected = [each if each == "never" else datetime.fromisoformat(each).isoformat() for each in firings.split()]
    assert following(text, start, len(expected)) == expected


@pytest.mark.parametrize(
    ("field", "numbers"),
    [
        ("57/2", {57, 59}),
        ("0-4,8-12", {0, 1, 2, 3, 4, 8, 9, 10, 11, 12}),
        ("5,10-30/2", {5, *range(10, 31, 2)}),
        ("*/20", {0, 20, 40}),
        ("30", {30}),
    ],
)
def test_numbers_of_a_field(field: str, numbers: set[int]) -> None:
    assert set(parse(f"{field} 0 0 * * *").seconds) == numbers


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("SUN-FRI", {7, 1, 2, 3, 4, 5}),
        ("7-5", {7, 1, 2, 3, 4, 5}),
        ("0-5", {7, 1, 2, 3, 4, 5}),
        ("SAT-SUN", {6, 7}),
        ("0", {7}),
        ("7", {7}),
        ("mon,Wed", {1, 3}),
        ("?", {1, 2, 3, 4, 5, 6, 7}),
        ("WED-FRI", {3, 4, 5}),
    ],
)
def test_days_of_the_week(field: str, days: set[int]) -> None:
    assert parse(f"0 0 0 * * {field}").of_week.plain == days


def test_months_have_names() -> None:
    assert parse("0 0 0 * jan,JUL-SEP *").months == (1, 7, 8, 9)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "0 fields"),
        ("* * * * *", "5 fields, not six"),
        ("* * * * * * *", "7 fields"),
        ("-", "1 fields"),
        ("@reboot", "no macro"),
        ("60 * * * * *", "second '60' .* 60 is outside of 0 to 59"),
        ("* 60 * * * *", "minute '60'"),
        ("* * 24 * * *", "hour '24'"),
        ("* * * 0 * *", "outside of 1 to 31"),
        ("* * * 32 * *", "day of month"),
        ("* * * * 0 *", "outside of 1 to 12"),
        ("* * * * 13 *", "month '13'"),
        ("* * * * * 8", "outside of 0 to 7"),
        ("0-12/0 * * * * *", "step .* must be 1 or more"),
        ("*/-1 * * * * *", "'-1' is not a number"),
        ("20-10 * * * * *", "ends before it begins"),
        ("* * * * * FRI-MON", "ends before it begins"),
        ("* * * * * *SUN", "is not a number or a name such as MON"),
        ("* * * * * SUN*", "is not a number"),
        ("* * * * * MONTUE", "is not a number"),
        ("* * * * JANFEB *", "is not a number or a name such as JAN"),
        ("? * * * * *", r"\? stands only for days"),
        ("* * * * ? *", r"\? stands only for days"),
        ("* * * ?,1 * *", r"\? must be the whole field"),
        ("* * * ?,L * *", r"\? must be the whole field"),
        ("1,,2 * * * * *", "a number is missing"),
        ("1- * * * * *", "a number is missing"),
        ("*/ * * * * *", "a number is missing"),
        ("+5 * * * * *", "is not a number"),
        ("٣ * * * * *", "is not a number"),
        ("* * * 1L * *", "none of L"),
        ("* * * LL * *", "none of L"),
        ("* * * W * *", "none of L"),
        ("* * * W1 * *", "none of L"),
        ("* * * 32W * *", "outside of 1 to 31"),
        ("* * * L-0 * *", "1 or more"),
        ("* * * L-X * *", "is not a number"),
        ("* * * L+3 * *", "none of L"),
        ("* * * * * L", "none of FRIL"),
        ("* * * * * 8L", "outside of 0 to 7"),
        ("* * * * * 1#", "none of FRIL"),
        ("* * * * * #1", "none of FRIL"),
        ("* * * * * FRI#-1", "is not a number"),
        ("* * * * * FRI#0", "counts from 1"),
        ("0 " * 400, "at most 500 characters"),
    ],
)
def test_refuses_what_spring_refuses(text: str, why: str) -> None:
    with pytest.raises(InvalidCron, match=why):
        parse(text)


@pytest.mark.parametrize(
    "text", ["0 0 0 ? * 3#6", "0 0 0 ? * 5L", "0 0 0 L-31 * *", "00 007 0 * * *", "0 0 0 1,15W * 0L"]
)
def test_takes_what_spring_takes(text: str) -> None:
    parse(text)


@given(st.text(alphabet="0123456789*/,-?LW#MONFRIJAS @", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        expression = parse(text)
    except InvalidCron:
        return
    expression.next_or_same(datetime(2024, 1, 1))  # noqa: DTZ001 - a wall time


@given(expressions(), wall_times())
def test_an_answer_matches_and_is_not_before(expression: CronExpression, start: datetime) -> None:
    found = expression.next_or_same(start)
    if found is not None:
        assert found >= start
        assert expression.matches(found)
        assert expression.next_or_same(found) == found


@settings(max_examples=50)
@given(expressions(), wall_times())
def test_no_firing_is_skipped(expression: CronExpression, start: datetime) -> None:
    """Against a scan of each second of an hour and of each day, at its first time, of three years."""
    end = start + timedelta(hours=1)
    by_scan = next((each for each in _each(start, end, timedelta(seconds=1)) if expression.matches(each)), None)
    found = expression.next_or_same(start)
    if by_scan is not None:
        assert found == by_scan
        return
    assert found is None or found >= end
    first = timedelta(hours=expression.hours[0], minutes=expression.minutes[0], seconds=expression.seconds[0])
    tomorrow = start.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    days = _each(tomorrow + first, tomorrow + timedelta(days=1100), timedelta(days=1))
    by_scan = next((each for each in days if expression.matches(each)), None)
    if by_scan is not None:
        assert found is not None
        assert found <= by_scan
        assert found.date() in (start.date(), by_scan.date())


def _each(start: datetime, end: datetime, step: timedelta) -> list[datetime]:
    return [start + step * count for count in range((end - start) // step)]


def test_the_calendar_ends() -> None:
    assert parse("0 0 0 1 1 *").next_or_same(datetime(9999, 1, 2)) is None  # noqa: DTZ001 - a wall time
