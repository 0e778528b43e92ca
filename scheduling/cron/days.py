"""Which days of a month a cron expression means: numbers, and rules such as the last weekday; pure.

A month is its length and the weekday of its first day: of those there are 28, whatever the year.
(After Spring's `QuartzCronField`.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from scheduling.cron.fields import DAY_OF_MONTH, DAY_OF_WEEK, InvalidField, Kind, numbers, whole

SATURDAY = 6
SUNDAY = 7


class Month(NamedTuple):
    """The shape of a month."""

    length: int
    first: int
    """The weekday of its first day; Monday is 1."""

    def weekday(self, day: int) -> int:
        """The weekday of a day; Monday is 1."""
        return (self.first + day - 2) % 7 + 1


class Rule(Protocol):
    """Means at most one day of a month."""

    def day(self, month: Month) -> int | None:
        """Which one; None: none in this month."""


@dataclass(frozen=True, slots=True)
class LastDay:
    """`L`, `L-n`: the month's last day, or n days before it."""

    before: int = 0

    def day(self, month: Month) -> int | None:
        day = month.length - self.before
        return day if day >= 1 else None


@dataclass(frozen=True, slots=True)
class LastWeekday:
    """`LW`: the month's last day from Monday to Friday."""

    def day(self, month: Month) -> int | None:
        return month.length - max(month.weekday(month.length) - 5, 0)


@dataclass(frozen=True, slots=True)
class NearestWeekday:
    """`nW`: the day from Monday to Friday next to a day, of the same month."""

    near: int

    def day(self, month: Month) -> int | None:
        if self.near > month.length:
            return None
        weekday = month.weekday(self.near)
        if weekday == SATURDAY:
            return self.near - 1 if self.near > 1 else 3
        if weekday == SUNDAY:
            return self.near + 1 if self.near < month.length else None
        return self.near


@dataclass(frozen=True, slots=True)
class LastOfWeekday:
    """`5L`: the month's last Friday."""

    weekday: int

    def day(self, month: Month) -> int | None:
        return month.length - (month.weekday(month.length) - self.weekday) % 7


@dataclass(frozen=True, slots=True)
class NthOfWeekday:
    """`5#2`: the month's second Friday; not in each month is there a fifth."""

    weekday: int
    nth: int

    def day(self, month: Month) -> int | None:
        day = 1 + (self.weekday - month.first) % 7 + 7 * (self.nth - 1)
        return day if day <= month.length else None


@dataclass(frozen=True, slots=True)
class Days:
    """One of the two fields of days."""

    plain: frozenset[int]
    rules: tuple[Rule, ...] = ()


def days_of_month(text: str) -> Days:
    """The fourth field. Raises `InvalidField`."""
    return _days(DAY_OF_MONTH, text, "LW", _rule_of_month)


def days_of_week(text: str) -> Days:
    """The sixth field. Raises `InvalidField`."""
    return _days(DAY_OF_WEEK, text.upper(), "L#", _rule_of_week)


def matching(of_month: Days, of_week: Days, month: Month) -> tuple[int, ...]:
    """The days of a month that both fields mean, ascending."""
    by_number = set(of_month.plain) | {rule.day(month) for rule in of_month.rules}
    by_rule = {rule.day(month) for rule in of_week.rules}
    return tuple(
        day
        for day in range(1, month.length + 1)
        if day in by_number and (month.weekday(day) in of_week.plain or day in by_rule)
    )


def _days(kind: Kind, text: str, letters: str, read: Callable[[str], Rule]) -> Days:
    if not any(_is_rule(part, letters, kind) for part in text.split(",")):
        return Days(numbers(kind, text))
    plain: set[int] = set()
    rules: list[Rule] = []
    for part in text.split(","):
        if _is_rule(part, letters, kind):
            rules.append(read(part))
        elif part == "?":
            raise InvalidField("? must be the whole field")
        else:
            plain.update(numbers(kind, part))
    return Days(frozenset(plain), tuple(rules))


def _is_rule(part: str, letters: str, kind: Kind) -> bool:
    """Whether an element of a list has one of the letters, beside names (none of WED and JUL is a rule)."""
    for name in kind.names:
        part = part.replace(name, "")
    return any(letter in part for letter in letters)


def _rule_of_month(part: str) -> Rule:
    if part == "L":
        return LastDay()
    if part == "LW":
        return LastWeekday()
    if part.startswith("L-"):
        before = whole(part[2:], DAY_OF_MONTH)
        if before < 1:
            raise InvalidField("the last day is L; L-n takes an n of 1 or more")
        return LastDay(before)
    if part.endswith("W") and len(part) > 1:
        return NearestWeekday(DAY_OF_MONTH.number(part[:-1]))
    raise InvalidField(f"{part!r} is none of L, L-3, LW and 15W")


def _rule_of_week(part: str) -> Rule:
    if part.endswith("L") and len(part) > 1:
        return LastOfWeekday(_weekday(part[:-1]))
    name, hash_sign, nth_text = part.partition("#")
    if not hash_sign or not name or not nth_text:
        raise InvalidField(f"{part!r} is none of FRIL (the last Friday) and FRI#2 (the second)")
    nth = whole(nth_text, DAY_OF_WEEK)
    if nth < 1:
        raise InvalidField(f"{part!r} counts from 1")
    return NthOfWeekday(_weekday(name), nth)


def _weekday(text: str) -> int:
    return DAY_OF_WEEK.number(text) or SUNDAY
