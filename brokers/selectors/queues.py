"""Reads of queues for people and for REST: what each was declared with, what holds for it, and what waits in it.

Everything here is bounded and by index: a list reads its queues in a handful of statements, and counts come from
`brokers.queues.lengths`, rates from the minutes that housekeeping folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from django.db.models import Sum

from brokers.database import sync_cursor
from brokers.errors import QueueNotFound, shown
from brokers.models import QueueMinute
from brokers.queues import lengths, topology
from brokers.queues.topology import QueueInfo
from brokers.selectors.exchanges import like
from brokers.sql import load

SQL = load("queue_reads")

MINUTES = 60
_CHUNK = 1000

Only = Literal["", "paused", "waiting", "unconsumed", "growing"]
"""Which queues of a list: all, paused, with messages, without a consumer, or longer than five minutes ago."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What a queue was declared with; None where nothing was said."""

    message_ttl_ms: int | None
    expires_ms: int | None
    max_length: int | None
    overflow: str | None
    max_priority: int | None
    dead_letter_exchange: str | None
    dead_letter_routing_key: str | None
    delivery_limit: int | None
    single_active_consumer: bool
    dead_letters: str


@dataclass(frozen=True, slots=True)
class QueueDetail:
    """A queue. Rates are messages a second in the last whole minute; `sparkline` what came in each of 60 minutes."""

    id: int
    name: str
    declared: Declared
    effective: QueueInfo
    """Its settings with those of its policy and the defaults."""
    paused: bool
    temporary: bool
    created_at: datetime
    ready: int
    unacknowledged: int
    delayed: int
    consumers: int
    oldest_ready_at: datetime | None
    """When the oldest ready message was published."""
    arrival_rate: float
    departure_rate: float
    sparkline: list[int]

    @property
    def messages(self) -> int:
        """Ready, unacknowledged and delayed together."""
        return self.ready + self.unacknowledged + self.delayed

    @property
    def policy(self) -> str | None:
        """The policy that holds for it, by name."""
        return self.effective.policy


@dataclass(frozen=True, slots=True)
class Totals:
    """All queues together; `minutes` are the last 60, oldest first, with the messages that came in each."""

    queues: int
    ready: int
    unacknowledged: int
    delayed: int
    oldest_ready_at: datetime | None
    minutes: list[tuple[datetime, int]]


def get(name: str) -> QueueDetail:
    """One queue; raises `QueueNotFound`."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.one, (name,)).fetchone()
    found = _details([row]) if row is not None else []
    if not found:
        raise QueueNotFound(f"there is no queue {shown(name)}")
    return found[0]


def page(
    after: str = "",
    limit: int = 50,
    may: Callable[[str], bool] = lambda name: True,
    *,
    prefix: str = "",
    only: Only = "",
) -> tuple[list[QueueDetail], str | None]:
    """Up to `limit` queues by name after `after`, those that `may` lets through; and the name to go on after.

    With `prefix` only those whose names begin with it.
    """
    rows: list[tuple[Any, ...]] = []
    wanted = {"pattern": like(prefix), "only": only, "limit": limit + 1}
    more = True
    while more and len(rows) <= limit:
        with sync_cursor() as cursor:
            found = cursor.execute(SQL.page, {**wanted, "after": after}).fetchall()
        rows += [row for row in found if may(row[1])]
        more = len(found) > limit
        after = found[-1][1] if found else after
    following = rows[limit - 1][1] if len(rows) > limit else None
    return _details(rows[:limit]), following


def totals() -> Totals:
    """All queues together, counted a thousand at a time."""
    ready = unacknowledged = delayed = count = after = 0
    oldest: datetime | None = None
    while True:
        with sync_cursor() as cursor:
            ids = [row[0] for row in cursor.execute(SQL.ids, (after, _CHUNK)).fetchall()]
            states = cursor.execute(SQL.states, (ids,)).fetchall()
        for figures in lengths.figures(ids).values():
            ready += figures.ready
            unacknowledged += figures.unacknowledged
            delayed += figures.delayed
        oldest = min((at for at in (oldest, *(row[2] for row in states)) if at is not None), default=None)
        count += len(ids)
        if len(ids) < _CHUNK:
            return Totals(count, ready, unacknowledged, delayed, oldest, _all_minutes())
        after = ids[-1]


def _details(rows: Sequence[tuple[Any, ...]]) -> list[QueueDetail]:
    """The queues of these rows, but for those deleted meanwhile."""
    ids = [row[0] for row in rows]
    routes = topology.fresh()
    with sync_cursor() as cursor:
        states = {row[0]: row[1:] for row in cursor.execute(SQL.states, (ids,)).fetchall()}
    counted = lengths.figures(ids)
    minutes = _minutes(ids)
    nothing = ([0] * MINUTES, [0] * MINUTES)
    found = []
    for row in rows:
        queue_id = row[0]
        effective = routes.queue_by_id(queue_id)
        if effective is None or queue_id not in states or queue_id not in counted:
            continue
        figures = counted[queue_id]
        arrived, gone = minutes.get(queue_id, nothing)
        found.append(
            QueueDetail(
                id=queue_id,
                name=row[1],
                declared=Declared(*row[2:12]),
                effective=effective,
                paused=row[12],
                temporary=row[13],
                created_at=row[14],
                ready=figures.ready,
                unacknowledged=figures.unacknowledged,
                delayed=figures.delayed,
                consumers=states[queue_id][0],
                oldest_ready_at=states[queue_id][1],
                arrival_rate=arrived[-2] / 60,
                departure_rate=gone[-2] / 60,
                sparkline=arrived,
            )
        )
    return found


def _first_minute() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)


def _minutes(queue_ids: Sequence[int]) -> dict[int, tuple[list[int], list[int]]]:
    """What came and what left in each of the last 60 minutes, this one last, for each of the queues."""
    first = _first_minute()
    found: dict[int, tuple[list[int], list[int]]] = {}
    rows = QueueMinute.objects.filter(
        queue_id__in=queue_ids, minute__gte=first, minute__lt=first + timedelta(minutes=MINUTES)
    )
    for queue_id, minute, arrived, gone in rows.values_list("queue_id", "minute", "arrived", "gone"):
        series = found.setdefault(queue_id, ([0] * MINUTES, [0] * MINUTES))
        index = int((minute - first).total_seconds() // 60)
        series[0][index], series[1][index] = arrived, gone
    return found


def _all_minutes() -> list[tuple[datetime, int]]:
    first = _first_minute()
    instants = [first + timedelta(minutes=index) for index in range(MINUTES)]
    rows = QueueMinute.objects.filter(minute__gte=first, minute__lte=instants[-1]).values("minute")
    came = {row["minute"]: row["n"] for row in rows.annotate(n=Sum("arrived"))}
    return [(instant, came.get(instant, 0)) for instant in instants]
