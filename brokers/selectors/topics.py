"""Reads of topics for people: the console's lists and pages, and REST's descriptions.

Everything here is bounded, and counts come from offsets and minute roll-ups, never from a scan of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count, QuerySet, Sum

from brokers import topic_log
from brokers.database import sync_cursor
from brokers.errors import TopicNotFound, shown
from brokers.models import Topic, TopicMinute
from brokers.sql import load

SQL = load("topic_reads")

MINUTES = 60
OVERVIEW_LIMIT = 200


@dataclass(frozen=True, slots=True)
class TopicSummary:
    """One line of a list of topics. `sparkline` holds the records of each of the last 60 minutes."""

    name: str
    partitions: int
    records: int
    bytes: int
    publish_rate: float
    sparkline: list[int]
    cleanup_policy: str
    retention_ms: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PartitionSummary:
    """One partition of a topic."""

    partition: int
    earliest_offset: int
    latest_offset: int
    records: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TopicDetail(TopicSummary):
    """A topic's page."""

    retention_bytes: int | None
    max_record_bytes: int
    partitioner: str
    partition_list: list[PartitionSummary]


@dataclass(frozen=True, slots=True)
class Totals:
    """All topics together; `minutes` are the last 60, oldest first, with the records stored in each."""

    topics: int
    records: int
    publish_rate: float
    minutes: list[tuple[datetime, int]]


def _this_minute() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0)


def overview() -> list[TopicSummary]:
    """Up to 200 topics by name, with their figures."""
    return page(limit=OVERVIEW_LIMIT)[0]


def page(prefix: str = "", after: str | None = None, limit: int = 50) -> tuple[list[TopicSummary], str | None]:
    """Topics whose names begin with `prefix`, after the name `after`; and the name to go on after, if any."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.page, (after or "", f"{_like(prefix)}%", limit + 1)).fetchall()
    following = rows[limit - 1][1] if len(rows) > limit else None
    rows = rows[:limit]
    minutes = _minutes([row[0] for row in rows])
    return [_summary(row, minutes.get(row[0], [0] * MINUTES)) for row in rows], following


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _summary(row: tuple[object, ...], sparkline: list[int]) -> TopicSummary:
    _, name, partitions, records, size, policy, retention_ms, created_at = row
    return TopicSummary(
        name=str(name),
        partitions=int(str(partitions)),
        records=int(str(records)),
        bytes=int(str(size)),
        publish_rate=sparkline[-2] / 60,
        sparkline=sparkline,
        cleanup_policy=str(policy),
        retention_ms=retention_ms if isinstance(retention_ms, int) else None,
        created_at=created_at if isinstance(created_at, datetime) else _this_minute(),
    )


def _minutes(topic_ids: Sequence[int]) -> dict[int, list[int]]:
    """Records of each of the last 60 minutes, this one last, for each of the topics."""
    now = _this_minute()
    first = now - timedelta(minutes=MINUTES - 1)
    found: dict[int, list[int]] = {}
    rows = TopicMinute.objects.filter(topic_id__in=topic_ids, minute__gte=first, minute__lte=now)
    for topic_id, minute, records in rows.values_list("topic_id", "minute", "records"):
        series = found.setdefault(topic_id, [0] * MINUTES)
        series[int((minute - first).total_seconds() // 60)] = records
    return found


def get(name: str) -> TopicDetail:
    """One topic; raises `TopicNotFound`."""
    topic = _topic(name)
    bounds = topic_log.bounds_of_topic(topic.pk)
    series = _minutes([topic.pk]).get(topic.pk, [0] * MINUTES)
    return TopicDetail(
        name=topic.name,
        partitions=len(bounds),
        records=sum(p.latest_offset - p.earliest_offset for p in bounds),
        bytes=sum(p.bytes for p in bounds),
        publish_rate=series[-2] / 60,
        sparkline=series,
        cleanup_policy=topic.cleanup_policy,
        retention_ms=topic.retention_ms,
        created_at=topic.created_at,
        retention_bytes=topic.retention_bytes,
        max_record_bytes=topic.max_record_bytes,
        partitioner=topic.partitioner,
        partition_list=[
            PartitionSummary(
                p.partition, p.earliest_offset, p.latest_offset, p.latest_offset - p.earliest_offset, p.bytes
            )
            for p in bounds
        ],
    )


def totals() -> Totals:
    """All topics together."""
    now = _this_minute()
    first = now - timedelta(minutes=MINUTES - 1)
    rows = TopicMinute.objects.filter(minute__gte=first, minute__lte=now).values("minute").annotate(n=Sum("records"))
    by_minute = {row["minute"]: row["n"] for row in rows}
    minutes = [(first + timedelta(minutes=n), by_minute.get(first + timedelta(minutes=n), 0)) for n in range(MINUTES)]
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.totals).fetchone()
    assert row is not None
    return Totals(topics=row[0], records=row[1], publish_rate=minutes[-2][1] / 60, minutes=minutes)


# -- settings, as REST describes them -----------------------------------------------------------------------------


def _with_count() -> QuerySet[Any]:
    return Topic.objects.annotate(partition_count=Count("partitions"))


def _topic(name: str) -> Any:
    topic = _with_count().filter(name=name).first()
    if topic is None:
        raise TopicNotFound(f"there is no topic {shown(name)}")
    return topic


def settings_of(name: str) -> tuple[Topic, int]:
    """A topic's row and its number of partitions; raises `TopicNotFound`."""
    row = _topic(name)
    return row, row.partition_count


def settings_page(after: str, limit: int, may: Callable[[str], bool]) -> tuple[list[tuple[Topic, int]], str | None]:
    """Rows and numbers of partitions by name, those that `may` lets through; and the name to go on after."""
    found: list[tuple[Topic, int]] = []
    while True:
        rows = list(_with_count().filter(name__gt=after).order_by("name")[: limit + 1])
        found.extend((row, row.partition_count) for row in rows if may(row.name))
        if len(found) > limit:
            return found[:limit], found[limit - 1][0].name
        if len(rows) <= limit:
            return found, None
        after = rows[-1].name
