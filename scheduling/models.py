"""The tables of the scheduling plane, as Django sees them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Func

from scheduling.executor_models import ExecutorReport
from scheduling.task_models import Run, RunAttempt, ScheduledTask

__all__ = ["ExecutorReport", "Run", "RunAttempt", "ScheduledTask", "ShedLock", "UtcNow", "UtcTimestampField"]

if TYPE_CHECKING:
    _Timestamp = models.DateTimeField[datetime, datetime]
else:
    _Timestamp = models.DateTimeField


class UtcTimestampField(_Timestamp):
    """A `timestamp` without time zone that is UTC, which is what ShedLock's columns are."""

    def db_type(self, connection: Any) -> str:
        """The column's type."""
        return "timestamp"

    def from_db_value(self, value: datetime | None, expression: Any, connection: Any) -> datetime | None:
        """The instant, aware of its zone."""
        return None if value is None else value.replace(tzinfo=UTC)


class UtcNow(Func):
    """The database's time of now, even within a long transaction, as ShedLock's columns have it."""

    template = "timezone('utc', clock_timestamp())"
    output_field = UtcTimestampField()


class ShedLock(models.Model):
    """One lock, held or free; ShedLock's own table. Only for reading: its statements are those of `locks.store`."""

    name = models.CharField(max_length=64, primary_key=True)
    lock_until = UtcTimestampField()
    locked_at = UtcTimestampField()
    locked_by = models.CharField(max_length=255)

    class Meta:
        managed = False
        db_table = "shedlock"
