"""On what terms a lock is taken, checked: its name, and for how long at most and at least."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from brokers.errors import shown
from scheduling import durations
from scheduling.locks.errors import InvalidLock

Duration = str | int | timedelta
"""ISO 8601 (`PT30S`), Spring's short form (`30s`), milliseconds or a timedelta."""

MAX_NAME: Final = 64
"""Characters that the table's column holds."""
KEEP_ALIVE_MIN_MS: Final = 30_000
"""As ShedLock's: a shorter lease would lapse over one slow answer."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a lock is acquired with."""

    name: str
    at_most_ms: int
    at_least_ms: int
    keep_alive: bool = False


def check(name: str, at_most_for: Duration, at_least_for: Duration, *, keep_alive: bool = False) -> Terms:
    """The terms of a lock; raises `InvalidLock`, and `InvalidDuration` for a time that cannot be.

    (After ShedLock's `LockConfiguration`.)
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or "\0" in name:
        raise InvalidLock(f"a lock's name is a text of 1 to {MAX_NAME} characters, not {shown(name)}")
    at_most, at_least = durations.milliseconds(at_most_for), durations.milliseconds(at_least_for)
    if at_most <= 0:
        raise InvalidLock(f"at_most_for of the lock {name} must be longer than nothing: it would lapse as it is taken")
    if at_least > at_most:
        raise InvalidLock(f"at_least_for of the lock {name} ({at_least} ms) is longer than at_most_for ({at_most} ms)")
    if keep_alive and at_most < KEEP_ALIVE_MIN_MS:
        raise InvalidLock(
            f"at_most_for of the lock {name} is {at_most} ms; kept alive, it must be {KEEP_ALIVE_MIN_MS} ms or more"
        )
    return Terms(name, at_most, at_least, keep_alive)
