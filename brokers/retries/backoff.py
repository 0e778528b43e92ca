"""How long to wait before each retry, and how many retries there are.

Intervals are in milliseconds. Retries count from 1: a record is delivered once, and once more for each retry, as with
Spring's back-offs of the same names. Pure; a listener may be given any object that has what `BackOff` names.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from brokers.errors import InvalidType, InvalidValue, shown

MAX_DELAY_MS = 31_536_000_000
"""A year: the longest pause between two attempts."""


class BackOff(Protocol):
    """A plan of retries."""

    @property
    def max_retries(self) -> int | None:
        """Retries at most, beyond the first delivery; None for no limit."""

    def delay_ms(self, retry: int) -> int | None:
        """The pause before retry number `retry`, from 1; None when there is no further one."""


@dataclass(frozen=True, slots=True)
class FixedBackOff:
    """The same pause before each retry; five seconds without an end, as in Spring, unless told otherwise."""

    interval_ms: int = 5000
    max_retries: int | None = None

    def __post_init__(self) -> None:
        """Raises `InvalidType` and `InvalidValue`."""
        _check_interval("interval_ms", self.interval_ms, 0)
        _check_retries(self.max_retries)

    def delay_ms(self, retry: int) -> int | None:
        """`interval_ms`, until the retries are used up."""
        return None if _used_up(retry, self.max_retries) else self.interval_ms


@dataclass(frozen=True, slots=True)
class ExponentialBackOff:
    """A pause that grows by `multiplier` with each retry, up to `max_interval_ms`.

    `jitter` is the fraction of the pause, 0 to 1, by which it varies at random to either side, so that records that
    failed together do not all come back together. `source` gives numbers from 0 to below 1.
    """

    initial_interval_ms: int = 2000
    multiplier: float = 1.5
    max_interval_ms: int = 30_000
    max_retries: int | None = None
    jitter: float = 0.0
    source: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises `InvalidType` and `InvalidValue`."""
        _check_interval("max_interval_ms", self.max_interval_ms, 1)
        _check_interval("initial_interval_ms", self.initial_interval_ms, 1)
        if self.initial_interval_ms > self.max_interval_ms:
            raise InvalidValue(
                f"initial_interval_ms is {self.initial_interval_ms}, more than max_interval_ms, {self.max_interval_ms}"
            )
        _check_number("multiplier", self.multiplier, 1.0, None)
        _check_number("jitter", self.jitter, 0.0, 1.0)
        _check_retries(self.max_retries)
        if not callable(self.source):
            raise InvalidType(f"source is a function that gives numbers, not {shown(self.source)}")

    def delay_ms(self, retry: int) -> int | None:
        """The pause before a retry: never below 0, never above `max_interval_ms`."""
        if _used_up(retry, self.max_retries):
            return None
        exact = self._without_jitter(retry)
        spread = math.floor(exact * self.jitter)
        low, high = exact - spread, min(exact + spread, self.max_interval_ms)
        return min(high, low + int(self.source() * (high - low + 1)))

    def _without_jitter(self, retry: int) -> int:
        try:
            grown = self.initial_interval_ms * self.multiplier ** (retry - 1)
        except OverflowError:
            return self.max_interval_ms
        return int(min(grown, self.max_interval_ms))


def _used_up(retry: int, max_retries: int | None) -> bool:
    if retry < 1:
        raise InvalidValue(f"retries count from 1, so there is no retry {shown(retry)}")
    return max_retries is not None and retry > max_retries


def _check_interval(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidType(f"{name} is a whole number of milliseconds, not {shown(value)}")
    if not least <= value <= MAX_DELAY_MS:
        raise InvalidValue(f"{name} must be {least} to {MAX_DELAY_MS} milliseconds, not {shown(value)}")


def _check_retries(value: object) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidType(f"max_retries is a whole number, or None for no limit, not {shown(value)}")
    if value < 0:
        raise InvalidValue(f"max_retries counts retries beyond the first delivery: 0 or more, not {shown(value)}")


def _check_number(name: str, value: object, least: float, most: float | None) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidType(f"{name} is a number, not {shown(value)}")
    if not math.isfinite(value) or value < least or (most is not None and value > most):
        allowed = f"at least {least:g}" if most is None else f"{least:g} to {most:g}"
        raise InvalidValue(f"{name} must be {allowed}, not {shown(value)}")
