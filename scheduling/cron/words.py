"""A cron expression in English, for lists of tasks: "Every weekday at 08:00"; pure.

Says when, not the syntax: two expressions that mean the same read the same. What has no short form is enumerated.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from scheduling.cron.days import Days, LastDay, LastOfWeekday, LastWeekday, NearestWeekday, NthOfWeekday, Rule
from scheduling.cron.expression import CronExpression, parse

MOST_TIMES: Final = 4
"""Times of a day that are enumerated; more are described."""

_LONG_AGO: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall time
_ALL_SIXTY: Final = tuple(range(60))
_ALL_HOURS: Final = tuple(range(24))
_ALL_MONTHS: Final = tuple(range(1, 13))
_ALL_DAYS: Final = frozenset(range(1, 32))
_ALL_WEEK: Final = frozenset(range(1, 8))
_WORKING: Final = frozenset(range(1, 6))


def in_words(expression: str | CronExpression) -> str:
    """When an expression fires, beginning with a capital and without a full stop. Raises `InvalidCron`."""
    parsed = parse(expression) if isinstance(expression, str) else expression
    if parsed.next_or_same(_LONG_AGO) is None:
        return "Never"
    days, times = _days(parsed), _times(parsed)
    if times is not None:
        said = f"{days or 'every day'} at {_listed(times)}"
    else:
        said = f"{_frequency(parsed)}, {days}" if days else _frequency(parsed)
    return (said[0].upper() + said[1:]).rstrip(",")


def _times(parsed: CronExpression) -> list[str] | None:
    """The times of a day, if they are few."""
    if len(parsed.hours) * len(parsed.minutes) * len(parsed.seconds) > MOST_TIMES:
        return None
    with_seconds = parsed.seconds != (0,)
    return [
        f"{hour:02}:{minute:02}" + (f":{second:02}" if with_seconds else "")
        for hour in parsed.hours
        for minute in parsed.minutes
        for second in parsed.seconds
    ]


def _frequency(parsed: CronExpression) -> str:
    """How often within a day."""
    hours = _hours(parsed.hours)
    if parsed.seconds == (0,):
        if parsed.minutes == (0,):
            return _hourly(parsed.hours)
        step = _step(parsed.minutes, 60)
        if step is not None:
            return _every(step, "minute") + hours
        minutes = f"at {_units('minute', parsed.minutes)}"
        return f"{minutes} of every hour" if not hours else minutes + hours
    step = _step(parsed.seconds, 60)
    seconds = _every(step, "second") if step is not None else f"at {_units('second', parsed.seconds)}"
    if parsed.minutes == _ALL_SIXTY:
        return (seconds if step is not None else f"{seconds} of every minute") + hours
    return f"{seconds} of {_units('minute', parsed.minutes)}" + (hours or " of every hour")


def _hourly(hours: Sequence[int]) -> str:
    step = _step(hours, 24)
    if step is not None:
        return _every(step, "hour")
    if _is_run(hours):
        return f"every hour from {hours[0]:02}:00 to {hours[-1]:02}:00"
    return "at " + _listed([f"{hour:02}:00" for hour in hours])


def _hours(hours: Sequence[int]) -> str:
    """Within which hours, as what follows minutes."""
    if hours == _ALL_HOURS:
        return ""
    if _is_run(hours):
        return f" from {hours[0]:02}:00 to {hours[-1]:02}:59"
    return f" of {_units('hour', hours)}"


def _days(parsed: CronExpression) -> str:
    """Which days; empty: all."""
    months = _months(parsed.months)
    by_date, by_weekday = parsed.of_month.plain != _ALL_DAYS, parsed.of_week.plain != _ALL_WEEK
    if not by_date:
        if by_weekday:
            of = " of the month" if parsed.of_week.rules and not months else ""
            return _weekdays(parsed.of_week) + of + (f" in {months}" if months else "")
        return f"every day in {months}" if months else ""
    dates = f"{_dates(parsed.of_month)} of {months or 'the month'}"
    return f"{dates}, if that is {_either(parsed.of_week)}," if by_weekday else dates


def _dates(of_month: Days) -> str:
    parts = [_rule(rule) for rule in of_month.rules]
    if of_month.plain:
        numbers = sorted(of_month.plain)
        if _is_run(numbers):
            days = f"the {_ordinal(numbers[0])} to {_ordinal(numbers[-1])}"
        else:
            days = "the " + _listed([_ordinal(number) for number in numbers])
        parts.insert(0, days)
    return f"on {_listed(parts)}"


def _weekdays(of_week: Days) -> str:
    if not of_week.rules and of_week.plain == _WORKING:
        return "every weekday"
    parts = [f"on {_rule(rule)}" for rule in of_week.rules]
    if of_week.plain:
        numbers = sorted(of_week.plain)
        if _is_run(numbers):
            parts.insert(0, f"{calendar.day_name[numbers[0] - 1]} to {calendar.day_name[numbers[-1] - 1]}")
        else:
            parts.insert(0, "every " + _listed([calendar.day_name[number - 1] for number in numbers]))
    return _listed(parts)


def _either(of_week: Days) -> str:
    """The weekdays as alternatives, where dates must be met as well."""
    if not of_week.rules and of_week.plain == _WORKING:
        return "a weekday"
    names = [f"a {calendar.day_name[number - 1]}" for number in sorted(of_week.plain)]
    return _listed(names + [_rule(rule) for rule in of_week.rules], "or")


def _rule(rule: Rule) -> str:
    match rule:
        case LastDay(0):
            return "the last day"
        case LastDay(1):
            return "the day before the last"
        case LastDay(before):
            return f"{before} days before the last"
        case LastWeekday():
            return "the last weekday"
        case NearestWeekday(near):
            return f"the weekday nearest to the {_ordinal(near)}"
        case LastOfWeekday(weekday):
            return f"the last {calendar.day_name[weekday - 1]}"
        case NthOfWeekday(weekday, nth):
            return f"the {_ordinal(nth)} {calendar.day_name[weekday - 1]}"
    raise TypeError(f"{rule!r} has no words")


def _months(months: Sequence[int]) -> str:
    """Which months; empty: all."""
    if months == _ALL_MONTHS:
        return ""
    if _is_run(months):
        return f"{calendar.month_name[months[0]]} to {calendar.month_name[months[-1]]}"
    return _listed([calendar.month_name[month] for month in months])


def _step(values: Sequence[int], size: int) -> int | None:
    """n where the values are every nth of all, from 0 on, and the cycle closes."""
    step = values[1] - values[0] if len(values) > 1 else 0
    if step and size % step == 0 and tuple(values) == tuple(range(0, size, step)):
        return step
    return None


def _is_run(values: Sequence[int]) -> bool:
    """Whether three or more follow each other."""
    return len(values) > 2 and values[-1] - values[0] == len(values) - 1


def _every(step: int, unit: str) -> str:
    return f"every {unit}" if step == 1 else f"every {step} {unit}s"


def _units(unit: str, values: Sequence[int]) -> str:
    if _is_run(values):
        return f"{unit}s {values[0]} to {values[-1]}"
    return f"{unit}{'s' if len(values) > 1 else ''} {_listed([str(value) for value in values])}"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _listed(parts: Sequence[str], last: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"
