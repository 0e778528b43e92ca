"""A cron expression by the wall clock of a time zone: which instants it means; pure.

Where the clock is put forward, wall times within the gap do not exist and do not fire; the search goes on where the gap
ends. Where it is put back, times within the repeated hour fire in both passes. (As Spring's `CronTrigger` has it.)
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from scheduling.cron.expression import CronExpression, parse

_SECOND: Final = timedelta(seconds=1)


class CronSchedule:
    """An expression and its zone. Raises `InvalidCron`."""

    __slots__ = ("expression", "zone")

    def __init__(self, expression: str | CronExpression, zone: tzinfo = UTC) -> None:
        self.expression = parse(expression) if isinstance(expression, str) else expression
        self.zone = zone

    def next(self, after: datetime) -> datetime | None:
        """The first instant strictly after one, in UTC, to the second; None: there is none.

        `after` knows its zone, which may be another one; raises `ValueError` otherwise.
        """
        if after.tzinfo is None:
            raise ValueError("an instant without a time zone: use an aware datetime")
        try:
            return self._from(after.astimezone(UTC).replace(microsecond=0) + _SECOND)
        except OverflowError:  # the calendar ends with the year 9999
            return None

    def _from(self, start: datetime) -> datetime | None:
        # All arithmetic is in UTC: between two datetimes of one zone Python ignores that their offsets differ.
        while True:
            local = start.astimezone(self.zone)
            offset = local.utcoffset()
            assert offset is not None
            wall = self.expression.next_or_same(local.replace(tzinfo=None, fold=0))
            again = local.replace(fold=1)
            if not local.fold and again.utcoffset() != offset:
                # The first pass of a repeated hour: what comes next may lie in it, or in the second pass, which begins
                # with earlier wall times.
                if wall is not None and self._is(wall, first := (wall - offset).replace(tzinfo=UTC)):
                    return first
                start = self._change(start, again.astimezone(UTC))
                continue
            if wall is None:
                return None
            passes = [wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
            for instant in passes:
                if instant >= start and self._is(wall, instant):
                    return instant
            start = self._change(passes[1], passes[0])  # within a gap

    def _is(self, wall: datetime, instant: datetime) -> bool:
        """Whether the clock shows a wall time at an instant."""
        return instant.astimezone(self.zone).replace(tzinfo=None, fold=0) == wall

    def _change(self, before: datetime, after: datetime) -> datetime:
        """The first instant with another offset than `before`; it lies at or before `after`."""
        offset = before.astimezone(self.zone).utcoffset()
        low, high = 0, int((after - before).total_seconds())
        while high - low > 1:
            middle = (low + high) // 2
            if (before + middle * _SECOND).astimezone(self.zone).utcoffset() == offset:
                low = middle
            else:
                high = middle
        return before + high * _SECOND
