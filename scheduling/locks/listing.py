"""Reads locks for people and surfaces: REST, the console and the `locks` command."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from brokers.errors import shown
from scheduling.locks.errors import LockNotFound
from scheduling.models import ShedLock, UtcNow

AT_ONCE: Final = 1000
_OURS = re.compile(r"(?P<host>.{1,200}):(?P<pid>[0-9]{1,10}):[0-9a-f]{12}", re.DOTALL)
"""How this project's processes name themselves (`store.holder`)."""


@dataclass(frozen=True, slots=True)
class LockRow:
    """One lock as it was at an instant of the database's clock."""

    name: str
    locked_by: str
    locked_at: datetime
    until: datetime
    now: datetime

    @property
    def is_held(self) -> bool:
        """Whether nobody can take it."""
        return self.until > self.now

    @property
    def has_run_out(self) -> bool:
        """Whether it was held to the end of a whole number of milliseconds, as it is when nobody unlocks it.

        So it is, too, where `at_least_for` kept it to the end; what was unlocked in time, or extended, ends between.
        """
        return not self.is_held and (self.until - self.locked_at).microseconds % 1000 == 0

    @property
    def host(self) -> str:
        """The holder's host: all that ShedLock's clients say."""
        ours = _OURS.fullmatch(self.locked_by)
        return ours["host"] if ours else self.locked_by

    @property
    def pid(self) -> int | None:
        """The holder's process; None for a client that does not say."""
        ours = _OURS.fullmatch(self.locked_by)
        return int(ours["pid"]) if ours else None


def page(after: str, limit: int, wanted: Callable[[LockRow], bool]) -> tuple[list[LockRow], str | None]:
    """Locks by name, those that are `wanted`; and the name to go on after, if there are more."""
    found: list[LockRow] = []
    while True:
        rows = list(ShedLock.objects.filter(name__gt=after).annotate(now=UtcNow()).order_by("name")[: AT_ONCE + 1])
        for row in map(_row, rows[:AT_ONCE]):
            if wanted(row):
                if len(found) == limit:
                    return found, found[-1].name
                found.append(row)
        if len(rows) <= AT_ONCE:
            return found, None
        after = rows[AT_ONCE - 1].name


def get(name: str) -> LockRow:
    """One lock; raises `LockNotFound`."""
    row = ShedLock.objects.filter(name=name).annotate(now=UtcNow()).first()
    if row is None:
        raise LockNotFound(f"there is no lock {shown(name)}")
    return _row(row)


def _row(row: ShedLock) -> LockRow:
    return LockRow(row.name, row.locked_by, row.locked_at, row.lock_until, row.now)  # type: ignore[attr-defined]
