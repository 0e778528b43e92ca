"""Records that were delivered and failed, made by hand: what the tests of dead letters begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction

from brokers import dead_letter_topics, dead_letters, topics
from brokers.deliveries import Delivery, Redelivered
from brokers.failure import Failure, describe
from brokers.models import ConsumerGroup, DeadLetter, Redelivery, Replay, ReplayItem
from brokers.record import JSON, Record
from tests.server import unique


def query(text: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
        return list(cursor.fetchall()) if cursor.description else []


def failure(message: str = "no plane 'N14228'", kind: type[Exception] = ValueError) -> Failure:
    """A failure with a traceback through this module."""
    try:
        raise kind(message)
    except kind as error:
        return describe(error)


def delivery(topic: str | None = None, offset: int = 7, **changes: Any) -> Delivery:
    """A record of a topic, made if need be, on its way to a consumer group; `changes` are of the record or of it."""
    name = topic or topics.create(unique(), partitions=3).name
    record = Record(1_700_000_000_000, b"N14228", b'{"a":1}', JSON, {"source": "test"}, offset, 1, name)
    for field in ("key_bytes", "value_bytes", "encoding", "headers", "partition"):
        if field in changes:
            setattr(record, field, changes.pop(field))
    group = changes.pop("group", None) or unique("group")
    row, _ = ConsumerGroup.objects.get_or_create(name=group)
    number = topics.lookup(name).partition_ids[record.partition]
    return Delivery(group, row.pk, changes.pop("handler", "shop.handle"), number, record, **changes)


def attempt(given: Delivery, number: int, ended: bool = True, delay_ms: int | None = None, kind: str = "a.B") -> None:
    """A failed attempt that began so many minutes after one o'clock and took ten seconds, or never ended."""
    began = f"2024-05-01 01:{number:02}:00+00"
    query(
        "insert into brokers_delivery_attempt (group_id, partition_id, record_offset, redelivery_id, number,"
        " started_at, ended_at, error, exception_class, stacktrace, frames, delay_ms, worker)"
        " values (%s, %s, %s, %s, %s, %s::timestamptz, case when %s then %s::timestamptz + interval '10 seconds' end,"
        " 'went wrong', %s, 'trace', '[]', %s, 'worker-1')",
        given.group_id,
        given.partition_id,
        given.record.offset,
        given.redelivery_id,
        number,
        began,
        ended,
        began,
        kind,
        delay_ms,
    )


def give_up(given: Delivery, reason: str = "exception", failed: Failure | None = None) -> int:
    """As a listener does it: the topic first, then one transaction. Without a failure it is an ordinary one."""
    dead_letter_topics.prepare(given.record.topic, len(topics.lookup(given.record.topic).partition_ids))
    with transaction.atomic():
        return dead_letters.give_up(given, reason, failed or (None if reason == "worker_lost" else failure()))


def letter(number: int) -> DeadLetter:
    return DeadLetter.objects.select_related("failure_group").get(pk=number)


def in_lane(given: Delivery, cause: str, number: int | None = None, item: int | None = None) -> Delivery:
    """The record again, now out of the redelivery lane."""
    record = given.record
    row = Redelivery.objects.create(
        group_id=given.group_id,
        partition_id=given.partition_id,
        topic=record.topic,
        partition=record.partition,
        record_offset=record.offset,
        record_timestamp=record.timestamp,
        due_at="2024-05-01 02:00:00+00",
        cause=cause,
        key=record.key_bytes,
        value=record.value_bytes,
        encoding=record.encoding,
        headers=b"{}",
        dead_letter_id=number,
        replay_item_id=item,
        first_failed_at="2024-05-01 00:30:00+00",
    )
    row.refresh_from_db()
    came_from = Redelivered(row.pk, cause, number, item, 1, row.first_failed_at)
    return Delivery(given.group, given.group_id, given.handler, given.partition_id, record, came_from)


def replaying(numbers: Sequence[int]) -> list[ReplayItem]:
    """A replay that has just sent these dead letters: its items."""
    replay = Replay.objects.create(state="running", selection={}, created_by="test", total=len(numbers))
    items = [
        ReplayItem.objects.create(
            replay=replay, position=position, dead_letter_id=number, revision=1, sent_at="2024-05-01 03:00:00+00"
        )
        for position, number in enumerate(numbers)
    ]
    DeadLetter.objects.filter(pk__in=numbers).update(state="replaying")
    return items
