"""How many departures reach the board each minute: a roll-up of its topic that reads each record once.

Each run reads on from where the last one stopped. What it adds and how far it has come are one transaction, so a run
that is killed in the middle is as if it had not been. Called by the task, and by the page for what it shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from django.db import connection, transaction

from brokers import topic_log, topics
from brokers.record import Record
from brokers.topics import TopicInfo
from examples.flights.board import Entry
from examples.flights.daily import LATE_MINUTES
from examples.flights.task_models import Rate, RatePosition
from realtime import broadcast

NAME: Final = "departure-rates"
"""The rates go to whoever is subscribed to `/topic/departure-rates`; no topic of the log has this name."""
AT_ONCE: Final = 1000
"""Records that are read in one go."""
MOST: Final = 60_000
"""Records of one run; the rest is the next one's."""
KEPT: Final = timedelta(days=7)
SHOWN_MINUTES: Final = 60

ADD: Final = """
    insert into flights_rate as r (minute, departures, delayed, cancelled)
    select * from unnest(%s::timestamptz[], %s::bigint[], %s::bigint[], %s::bigint[])
    on conflict (minute) do update set
      departures = r.departures + excluded.departures,
      delayed = r.delayed + excluded.delayed,
      cancelled = r.cancelled + excluded.cancelled
"""
LOCK: Final = """
    insert into flights_rate_position as p (topic, offsets) values (%s, '[]')
    on conflict (topic) do update set topic = p.topic
    returning offsets::text
"""


def roll_up(topic: str) -> dict[str, int]:
    """Adds what the topic has got since the last roll-up, and tells the pages; says how many records that were.

    Two at once wait for each other. Raises `TopicNotFound`, `Unavailable`.
    """
    info = topics.lookup(topic)
    counts: defaultdict[datetime, list[int]] = defaultdict(lambda: [0, 0, 0])
    with transaction.atomic():
        offsets, read = _lock(info), 0
        for record in _records(info, offsets):
            read += 1
            _count(record, counts)
        _add(counts)
        RatePosition.objects.filter(topic=info.id).update(offsets=offsets)
        RatePosition.objects.exclude(topic=info.id).delete()
        Rate.objects.filter(minute__lt=_now() - KEPT).delete()
        broadcast(f"/topic/{NAME}", shown())
    return {"records": read, "minutes": len(counts)}


def shown() -> dict[str, Any]:
    """The last hour as the page shows it: departures, delayed and cancelled of each minute in which there were any."""
    now = _now()
    first = now.replace(second=0, microsecond=0) - timedelta(minutes=SHOWN_MINUTES - 1)
    rows = Rate.objects.filter(minute__gte=first, minute__lte=now).order_by("minute")
    return {
        "now": now.isoformat(),
        "minutes": [
            [row.minute.astimezone(UTC).isoformat(), row.departures, row.delayed, row.cancelled] for row in rows
        ],
    }


def _lock(info: TopicInfo) -> list[int]:
    """The next offset to read of each partition; nobody else rolls up until the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute(LOCK, [info.id])
        (text,) = cursor.fetchone()
    offsets: list[int] = msgspec.json.decode(text)
    earliest = [partition.earliest_offset for partition in topic_log.ends_of_topic(info.id)]
    return [max(known, first) for known, first in zip([*offsets, *[0] * len(earliest)], earliest, strict=False)]


def _records(info: TopicInfo, offsets: list[int]) -> Iterator[Record]:
    """What is new, partition by partition, up to `MOST`; moves the offsets on."""
    share = MOST // max(len(offsets), 1)
    for partition in range(len(offsets)):
        left = share
        while left > 0:
            found = topic_log.read(info, partition, offsets[partition], min(AT_ONCE, left))
            if not found.records:
                break
            yield from found.records
            offsets[partition], left = found.next_offset, left - len(found.records)


def _count(record: Record, counts: defaultdict[datetime, list[int]]) -> None:
    """Counts a record for the minute in which it was published; one that is no entry of the board counts nothing."""
    try:
        entry = msgspec.convert(record.value, Entry)
    except msgspec.ValidationError:
        return
    count = counts[datetime.fromtimestamp(record.timestamp // 60_000 * 60, UTC)]
    count[0] += 1
    count[1] += (entry.delay_minutes or 0) >= LATE_MINUTES
    count[2] += entry.delay_minutes is None


def _add(counts: dict[datetime, list[int]]) -> None:
    if counts:
        rows = [(minute, *numbers) for minute, numbers in sorted(counts.items())]
        with connection.cursor() as cursor:
            cursor.execute(ADD, [list(column) for column in zip(*rows, strict=True)])


def _now() -> datetime:
    """The database's time."""
    with connection.cursor() as cursor:
        cursor.execute("select clock_timestamp()")
        (now,) = cursor.fetchone()
    found: datetime = now
    return found
