"""The parts of a cron expression that are numbers: which ones a field means; pure.

(After Spring's `CronField` and `BitsCronField`.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from brokers.errors import shown

EVERY: Final = "*"
ANY_DAY: Final = "?"


class InvalidField(ValueError):
    """What is wrong with a field; the expression says it with the field's name."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What one of the six fields counts."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    """Names of `first_named` and what follows."""
    first_named: int = 1
    takes_zero: bool = False
    """Whether 0 may be written though `*` begins with 1: Sunday."""
    may_be_any: bool = False
    """Whether `?` may be written for `*`."""

    def number(self, text: str) -> int:
        """A number or a name; raises `InvalidField`."""
        named = text.upper()
        if named in self.names:
            return self.names.index(named) + self.first_named
        number = whole(text, self)
        if not (self.low <= number <= self.high or (number == 0 and self.takes_zero)):
            raise InvalidField(f"{number} is outside of {0 if self.takes_zero else self.low} to {self.high}")
        return number


MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")

SECOND: Final = Kind("second", 0, 59)
MINUTE: Final = Kind("minute", 0, 59)
HOUR: Final = Kind("hour", 0, 23)
DAY_OF_MONTH: Final = Kind("day of month", 1, 31, may_be_any=True)
MONTH: Final = Kind("month", 1, 12, names=MONTHS)
DAY_OF_WEEK: Final = Kind("day of week", 1, 7, names=WEEKDAYS, takes_zero=True, may_be_any=True)
"""1 is Monday; Sunday is 7, and 0 as well."""

_NUMBER = re.compile(r"[0-9]{1,9}")


def whole(text: str, kind: Kind) -> int:
    """A whole number without a sign; raises `InvalidField`."""
    if _NUMBER.fullmatch(text):
        return int(text)
    if not text:
        raise InvalidField("a number is missing")
    names = f" or a name such as {kind.names[0]}" if kind.names else ""
    raise InvalidField(f"{shown(text)} is not a number{names}")


def numbers(kind: Kind, text: str) -> frozenset[int]:
    """What a field, or an element of its list, means: `*`, `a`, `a-b`, `*/n`, `a/n`, `a-b/n` and lists of them.

    Sundays are 7. Raises `InvalidField`.
    """
    if text == ANY_DAY:
        if not kind.may_be_any:
            raise InvalidField("? stands only for days of the month and of the week")
        text = EVERY
    found: set[int] = set()
    for part in text.split(","):
        found.update(_range(kind, part))
    if 0 in found and kind.takes_zero:
        found.discard(0)
        found.add(7)
    return frozenset(found)


def _range(kind: Kind, part: str) -> range:
    if part == ANY_DAY:
        raise InvalidField("? must be the whole field")
    span, slash, step_text = part.partition("/")
    step = whole(step_text, kind) if slash else 1
    if step < 1:
        raise InvalidField(f"the step of {shown(part)} must be 1 or more")
    low_text, hyphen, high_text = span.partition("-")
    if span == EVERY:
        low, high = kind.low, kind.high
    elif hyphen:
        low, high = kind.number(low_text), kind.number(high_text)
        if kind.takes_zero and low == 7:
            low = 0  # a range may begin with Sunday
        if low > high:
            raise InvalidField(f"the range {shown(span)} ends before it begins")
    else:
        low = kind.number(span)
        high = kind.high if slash else low
    return range(low, high + 1, step)
