"""A parsed cron expression, and its answers by the wall clock: what `zoned` turns into instants; pure.

(After Spring's `CronExpression`; see the package for where it differs.)
"""

from __future__ import annotations

import calendar
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import MAXYEAR, datetime, time
from functools import lru_cache
from typing import Final, TypeVar

from brokers.errors import shown
from scheduling.cron.days import Days, Month, days_of_month, days_of_week, matching
from scheduling.cron.fields import HOUR, MINUTE, MONTH, SECOND, InvalidField, numbers
from scheduling.errors import InvalidCron

MACROS: Final = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
MAX_LENGTH: Final = 500
"""Characters of an expression."""
SEARCHED_MONTHS: Final = 41 * 12
"""How far ahead a date is looked for: 29 February on a given weekday may be forty years off."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CronExpression:
    """What the six fields mean; made by `parse`."""

    text: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    of_month: Days
    months: tuple[int, ...]
    of_week: Days
    _days: dict[Month, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)
    """Days that match, by the month's shape: at most 28."""

    def next_or_same(self, wall: datetime) -> datetime | None:
        """The first matching wall time from one on, which has no zone and no fraction of a second.

        None: there is none in the next 41 years, or before the calendar ends.
        """
        year, month = wall.year, wall.month
        today = self._days_in(year, month)
        if wall.day in today and (moment := self._time_from(wall.time())) is not None:
            return datetime.combine(wall.date(), moment)
        later = today[bisect_left(today, wall.day + 1) :]
        for _ in range(SEARCHED_MONTHS + 1):
            if later:
                return datetime(year, month, later[0], self.hours[0], self.minutes[0], self.seconds[0])  # noqa: DTZ001 - a wall time
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
            if year > MAXYEAR:
                return None
            later = self._days_in(year, month)
        return None

    def matches(self, wall: datetime) -> bool:
        """Whether a wall time is one of the expression's, to the second."""
        return (
            wall.second in self.seconds
            and wall.minute in self.minutes
            and wall.hour in self.hours
            and wall.day in self._days_in(wall.year, wall.month)
        )

    def _days_in(self, year: int, month: int) -> tuple[int, ...]:
        if month not in self.months:
            return ()
        first, length = calendar.monthrange(year, month)
        shape = Month(length, first + 1)
        days = self._days.get(shape)
        if days is None:
            days = self._days[shape] = matching(self.of_month, self.of_week, shape)
        return days

    def _time_from(self, start: time) -> time | None:
        """The first matching time of a day from one on."""
        hour = _at_least(self.hours, start.hour)
        if hour is None:
            return None
        if hour > start.hour:
            return time(hour, self.minutes[0], self.seconds[0])
        minute = _at_least(self.minutes, start.minute)
        if minute == start.minute:
            second = _at_least(self.seconds, start.second)
            if second is not None:
                return time(hour, minute, second)
            minute = _at_least(self.minutes, start.minute + 1)
        if minute is not None:
            return time(hour, minute, self.seconds[0])
        hour = _at_least(self.hours, start.hour + 1)
        return None if hour is None else time(hour, self.minutes[0], self.seconds[0])


@lru_cache(maxsize=1024)
def parse(text: str) -> CronExpression:
    """Reads an expression of six fields, or a macro such as `@daily`.

    Raises:
        InvalidCron: says which field is wrong, and why.
    """
    if not isinstance(text, str):
        raise InvalidCron(f"a cron expression is text, not {shown(text)}")
    if len(text) > MAX_LENGTH:
        raise InvalidCron(f"a cron expression has at most {MAX_LENGTH} characters, not {len(text)}")
    stripped = text.strip()
    if stripped.startswith("@"):
        if stripped.lower() not in MACROS:
            raise InvalidCron(f"there is no macro {shown(stripped)}; there are {', '.join(MACROS)}")
        stripped = MACROS[stripped.lower()]
    fields = [part.strip() for part in stripped.split(" ") if part.strip()]
    if len(fields) != 6:
        raise InvalidCron(
            f"the cron expression {shown(text)} has {len(fields)} fields, not six: "
            f"second, minute, hour, day of month, month, day of week"
        )

    def read(place: int, name: str, reader: Callable[[str], T]) -> T:
        try:
            return reader(fields[place])
        except InvalidField as wrong:
            raise InvalidCron(
                f"the {name} {shown(fields[place])} of the cron expression {shown(text)}: {wrong}"
            ) from None

    return CronExpression(
        text=text.strip(),
        seconds=read(0, SECOND.name, lambda part: _ascending(numbers(SECOND, part))),
        minutes=read(1, MINUTE.name, lambda part: _ascending(numbers(MINUTE, part))),
        hours=read(2, HOUR.name, lambda part: _ascending(numbers(HOUR, part))),
        of_month=read(3, "day of month", days_of_month),
        months=read(4, MONTH.name, lambda part: _ascending(numbers(MONTH, part))),
        of_week=read(5, "day of week", days_of_week),
    )


def _ascending(found: frozenset[int]) -> tuple[int, ...]:
    return tuple(sorted(found))


def _at_least(values: tuple[int, ...], low: int) -> int | None:
    place = bisect_left(values, low)
    return values[place] if place < len(values) else None
