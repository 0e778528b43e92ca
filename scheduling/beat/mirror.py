"""Operators' periodic tasks, django-celery-beat's models, as scheduled tasks.

They are fired like those in code, with the same history and pause. Looked at when django-celery-beat says that
something has changed, and fully each minute, since what bypasses its signals says nothing; very many changes are
written some hundreds at a time, so that the beat goes on firing meanwhile. Not mirrored: the queue, routing and headers
of a periodic task, since runs go to this server's workers. What makes no sense, and solar schedules, are named in the
log, and the others go on. Called by the leading beat.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
from celery.schedules import ParseException, crontab
from django.core.exceptions import ValidationError
from django.db import close_old_connections
from django.db.models import F
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from brokers.database import store_errors
from scheduling.connections import Cursor, OwnConnection
from scheduling.errors import InvalidSchedule
from scheduling.tasks import store
from scheduling.tasks.declared import SHORTEST_PERIOD_MS
from scheduling.tasks.store import Task
from scheduling.tasks.triggers import RUN_ONCE, Cron, FixedRate, Once, Trigger

log = logging.getLogger("waystation.beat")

LOOK_SECONDS: Final = 1.0
FULL_SECONDS: Final = 60.0
WRITE_SECONDS: Final = 1.0
"""How long a look may write; the next goes on. The beat has to renew its lease and to fire meanwhile."""
TOGETHER: Final = 500
"""Tasks that one statement writes."""
_UNIT: Final = {"microseconds": 0.001, "seconds": 1000, "minutes": 60_000, "hours": 3_600_000, "days": 86_400_000}
_FIELDS: Final = (("minute", 60), ("hour", 24), ("day_of_month", 31), ("month_of_year", 12), ("day_of_week", 7))


class Mirror:
    """What the leading beat remembers between two looks."""

    def __init__(self) -> None:
        self._changed_at: datetime | None = None
        self._looked_at = -LOOK_SECONDS
        self._mirrored_at = -FULL_SECONDS
        self._expires_at: datetime | None = None
        """When the next of them expires."""
        self._written: dict[int, Task] = {}
        self._named: dict[int, str] = {}
        """What the log says of those that cannot run."""

    def look(self, connection: OwnConnection, now: datetime) -> None:
        """Mirrors the periodic tasks if something may have changed. Raises `Unavailable`."""
        begun = time.monotonic()
        if begun - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = begun
        with store_errors():
            close_old_connections()
            changed_at = PeriodicTasks.last_change()
            has_expired = self._expires_at is not None and self._expires_at <= now
            if changed_at == self._changed_at and not has_expired and begun - self._mirrored_at < FULL_SECONDS:
                return
            try:
                found = list(PeriodicTask.objects.select_related("interval", "crontab", "solar", "clocked"))
            except ValidationError as error:  # such as a time zone that there is not: Django reads none of them then
                log.error("periodic tasks cannot be read, they stay as they were", extra={"error": str(error)})
                self._changed_at, self._mirrored_at = changed_at, begun
                return
        mirrored = self._images(found, now)
        with connection.cursor() as cursor:
            store.withdraw(cursor, store.OPERATOR, [each.name for each in mirrored.values()])
            self._written = {key: image for key, image in self._written.items() if key in mirrored}
            changed = [key for key, image in mirrored.items() if self._written.get(key) != image]
            enough = time.monotonic() + WRITE_SECONDS
            for first in range(0, len(changed), TOGETHER):
                together = {key: mirrored[key] for key in changed[first : first + TOGETHER]}
                _write(cursor, list(together.values()))
                self._written |= together
                if time.monotonic() > enough:
                    return
        self._expires_at = min((each.expires for each in found if each.expires and each.expires > now), default=None)
        self._changed_at, self._mirrored_at = changed_at, begun

    def _images(self, found: Sequence[PeriodicTask], now: datetime) -> dict[int, Task]:
        """What is to be written of those that can run; the others are named in the log, once."""
        images: dict[int, Task] = {}
        named: dict[int, str] = {}
        for each in found:
            try:
                images[each.id] = _image(each, now)
            except InvalidSchedule as error:
                named[each.id] = error.detail
                if self._named.get(each.id) != error.detail:
                    log.warning("a periodic task cannot run", extra={"task": each.name, "error": error.detail})
        self._named = named
        return images


def note_fired(periodic_tasks: Sequence[int], now: datetime) -> None:
    """Tells the operators' pages what was fired: without signals, which would make the mirror look again.

    Raises `Unavailable`.
    """
    if not periodic_tasks:
        return
    with store_errors():
        rows = PeriodicTask.objects.filter(id__in=periodic_tasks)
        rows.update(last_run_at=now, total_run_count=F("total_run_count") + 1)
        rows.filter(one_off=True).update(enabled=False)


def trigger_of(task: PeriodicTask) -> Trigger:
    """Its schedule in our terms. Raises `InvalidSchedule` for one that is not supported."""
    if task.interval is not None:
        trigger: Trigger = FixedRate(_period_ms(task.interval))
    elif task.crontab is not None:
        cron = Cron(expression_of(task.crontab), str(task.crontab.timezone))
        cron.schedule()
        trigger = cron
    elif task.clocked is not None:
        return Once(at=task.clocked.clocked_time.isoformat())
    else:
        raise InvalidSchedule("solar schedules are not supported")
    if not task.one_off:
        return trigger
    first = first_due(trigger, task.start_time or task.date_changed)
    if first is None:
        raise InvalidSchedule("its schedule is never due")
    return Once(at=first.isoformat())


def first_due(trigger: Trigger, begin: datetime) -> datetime | None:
    """When it is due first; an interval one interval after it began, as with Celery. Raises `OverflowError`."""
    if isinstance(trigger, FixedRate):
        return begin + timedelta(milliseconds=trigger.period_ms)
    return trigger.first(begin)


def expression_of(schedule: CrontabSchedule) -> str:
    """A crontab of Celery's in six fields: its minutes to months as sets, at second 0."""
    parsed = crontab(
        minute=schedule.minute,
        hour=schedule.hour,
        day_of_week=schedule.day_of_week,
        day_of_month=schedule.day_of_month,
        month_of_year=schedule.month_of_year,
    )
    fields = ["0"]
    for name, size in _FIELDS:
        values = sorted(getattr(parsed, name))
        fields.append("*" if len(values) == size else ",".join(map(str, values)))
    return " ".join(fields)


def _image(task: PeriodicTask, now: datetime) -> Task:
    """What is to be written of a periodic task. Raises `InvalidSchedule` where it cannot run here, and says why."""
    begin = max(task.date_changed, task.start_time) if task.start_time else task.date_changed
    try:
        trigger = trigger_of(task)
        first = first_due(trigger, begin)
    except (ParseException, ValueError) as error:
        raise InvalidSchedule(str(error)) from error
    except OverflowError as error:
        raise InvalidSchedule("it is due beyond the end of the calendar") from error
    if first is None:
        raise InvalidSchedule("its schedule is never due")
    return Task(
        name=task.name,
        trigger=trigger,
        first_due=first,
        overlap="allow",
        misfire=RUN_ONCE,
        periodic_task=task.id,
        options={
            "task": task.task,
            "args": _read("arguments", task.args or "[]", list),
            "kwargs": _read("keyword arguments", task.kwargs or "{}", dict),
        },
        is_declared=bool(task.enabled) and not (task.expires is not None and task.expires <= now),
    )


def _read(what: str, text: str, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """JSON that an operator wrote; raises `InvalidSchedule`."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise InvalidSchedule(f"its {what} are not JSON: {error}") from error
    if not isinstance(value, kind):
        raise InvalidSchedule(f"its {what} are no JSON {'array' if kind is list else 'object'}")
    return value


def _write(cursor: Cursor, tasks: Sequence[Task]) -> None:
    try:
        ours = store.write(cursor, store.OPERATOR, tasks)
    except psycopg.DataError as error:  # such as NUL in somebody's arguments, which PostgreSQL does not store
        if len(tasks) == 1:
            log.warning("a periodic task cannot run", extra={"task": tasks[0].name, "error": str(error)})
            return
        for each in tasks:
            _write(cursor, [each])
        return
    for each in tasks:
        if each.name not in ours:
            log.warning("a periodic task has the name of a task in code and does not run", extra={"task": each.name})


def _period_ms(interval: IntervalSchedule) -> int:
    """An interval of microseconds is one of a tenth of a second here. Raises `InvalidSchedule`."""
    if interval.every < 1 or interval.period not in _UNIT:
        raise InvalidSchedule(f"there is no interval of {interval.every} {interval.period}")
    return max(int(interval.every * _UNIT[interval.period]), SHORTEST_PERIOD_MS)
