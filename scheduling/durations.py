"""Spans of time as applications write them, in whole milliseconds; pure.

Read are ISO 8601 as `java.time.Duration` reads it (`PT30S`, `P1DT2H`, fractions of seconds), Spring's short form
(`500ms`, `5s`, `1h30m`) and plain milliseconds: what Spring's `@Scheduled` and ShedLock's annotations take.
"""

from __future__ import annotations

import re
from datetime import timedelta
from functools import lru_cache
from typing import Final

from brokers.errors import shown
from scheduling.errors import InvalidDuration

MAX_MS: Final = 36_525 * 86_400_000
"""A hundred years: what is longer is a mistake, and would leave the calendar when added to a date."""

_MILLISECOND = 1_000_000
_NANOSECONDS: Final = {
    "d": 86_400_000 * _MILLISECOND,
    "h": 3_600_000 * _MILLISECOND,
    "m": 60_000 * _MILLISECOND,
    "s": 1000 * _MILLISECOND,
    "ms": _MILLISECOND,
    "us": 1000,
    "ns": 1,
}
_WORDS: Final = (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1000), ("millisecond", 1))
_LONGEST_TEXT = 64

_ISO = re.compile(
    r"P(?=.)(?:(?P<d>\d+)D)?(?:T(?=.)(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+)(?:[.,](?P<ns>\d{0,9}))?S)?)?",
    re.ASCII | re.IGNORECASE,
)
_SHORT = re.compile(
    r"(?=.)" + r"\s?".join(rf"(?:(?P<{unit}>\d+){unit})?" for unit in _NANOSECONDS),
    re.ASCII | re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+", re.ASCII)


def milliseconds(value: str | int | timedelta) -> int:
    """A span of time in milliseconds: 0 to a hundred years.

    A number, also as text, is in milliseconds. What is finer than a millisecond is refused rather than rounded.

    Raises:
        InvalidDuration: not a span of time, negative, too long or too fine.
    """
    if isinstance(value, str):
        nanoseconds = _read(value)
    elif isinstance(value, timedelta):
        nanoseconds = (value // timedelta(microseconds=1)) * 1000
    elif isinstance(value, int) and not isinstance(value, bool):
        nanoseconds = value * _MILLISECOND
    else:
        raise InvalidDuration(
            f"a duration is ISO 8601 text such as PT30S, milliseconds or a timedelta, not {shown(value)}"
        )
    whole, rest = divmod(nanoseconds, _MILLISECOND)
    if nanoseconds < 0:
        raise InvalidDuration(f"the duration {shown(value)} is negative")
    if rest:
        raise InvalidDuration(f"the duration {shown(value)} is finer than a millisecond")
    if whole > MAX_MS:
        raise InvalidDuration(f"the duration {shown(value)} is longer than a hundred years")
    return whole


@lru_cache(maxsize=1024)
def _read(text: str) -> int:
    """Nanoseconds of a text; those of locks are read at each use."""
    stripped = text.strip()
    sign = -1 if stripped.startswith("-") else 1
    bare = stripped[1:] if stripped[:1] in ("-", "+") else stripped
    if len(bare) <= _LONGEST_TEXT:
        if _NUMBER.fullmatch(bare):
            return sign * int(bare) * _MILLISECOND
        found = _ISO.fullmatch(bare)
        if found is not None:
            parts = found.groupdict()
            parts["ns"] = (parts["ns"] or "").ljust(9, "0")
            return sign * _sum(parts)
        found = _SHORT.fullmatch(bare)
        if found is not None:
            return sign * _sum(found.groupdict())
    raise InvalidDuration(
        f"{shown(text)} is not a duration; write ISO 8601 such as PT30S or P1DT2H, the short form such as 30s, "
        f"or milliseconds"
    )


def _sum(parts: dict[str, str | None]) -> int:
    return sum(int(amount) * _NANOSECONDS[unit] for unit, amount in parts.items() if amount)


def text(ms: int) -> str:
    """ISO 8601 of milliseconds: `P1DT2H`, `PT0.5S`, `PT0S`; `milliseconds` reads it back."""
    if ms < 0:
        return "-" + text(-ms)
    seconds, fraction = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    decimals = f".{fraction:03d}".rstrip("0") if fraction else ""
    second = f"{seconds}{decimals}S" if seconds or fraction else ""
    time = "".join(f"{amount}{unit}" for amount, unit in ((hours, "H"), (minutes, "M")) if amount) + second
    date = f"{days}D" if days else ""
    return f"P{date}T{time}" if time else f"P{date or 'T0S'}"


def words(ms: int) -> str:
    """For people, in whole units: `1 hour 30 minutes`, `30 seconds`, `0 seconds`."""
    found: list[str] = []
    for unit, size in _WORDS:
        amount, ms = divmod(ms, size)
        if amount:
            found.append(f"{amount:,} {unit}" + ("s" if amount != 1 else ""))
    return " ".join(found) or "0 seconds"
