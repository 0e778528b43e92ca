"""Minute roll-ups against the real PostgreSQL: each record is counted once, whatever happens around."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection, connections, transaction

from brokers import compaction, housekeeping, publish, publish_many, retention, rollups, topics
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = 60_000
COUNTING = next(job for job in housekeeping.QUICK if job.run.__closure__ and job.name == "count records")


def query(text: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
        return list(cursor.fetchall()) if cursor.description else []


def create(partitions: int = 1, **options: Any) -> str:
    name = unique()
    topics.create(name, partitions=partitions, **options)
    return name


def minutes(topic: str) -> list[tuple[int, int]]:
    """Records and bytes of each minute in order."""
    return query(
        "select m.records, m.bytes from brokers_topic_minute m join brokers_topic t on t.id = m.topic_id"
        " where t.name = %s order by m.minute",
        topic,
    )


def stored(topic: str) -> int:
    return int(
        query(
            "select coalesce(sum(octet_length(payload)), 0) from brokers_log_batch b"
            " join brokers_partition p on p.id = b.partition_id join brokers_topic t on t.id = p.topic_id"
            " where t.name = %s",
            topic,
        )[0][0]
    )


def counts(topic: str) -> list[tuple[int, int]]:
    """Counted offset and bytes of each partition."""
    return query(
        "select c.counted_offset, c.counted_bytes from brokers_partition_count c"
        " join brokers_partition p on p.id = c.partition_id join brokers_topic t on t.id = p.topic_id"
        " where t.name = %s order by p.number",
        topic,
    )


def at_minute(topic: str, minute: int, since: int) -> None:
    """Puts batches from an offset on into a minute of their own."""
    query(
        "update brokers_log_batch b set stored_at = %s from brokers_partition p, brokers_topic t"
        " where p.id = b.partition_id and t.id = p.topic_id and t.name = %s and b.base_offset >= %s",
        1_700_000_040_000 + minute * MINUTE,
        topic,
        since,
    )


def test_records_and_bytes_are_counted_by_the_minute_in_which_they_were_stored() -> None:
    topic = create()
    for minute in range(3):
        publish_many(topic, [{"value": minute}] * (minute + 1))
        at_minute(topic, minute, since=minute * (minute + 1) // 2)
    assert rollups.count_new() == 3
    assert [records for records, _ in minutes(topic)] == [1, 2, 3]
    assert sum(size for _, size in minutes(topic)) == stored(topic)
    assert counts(topic) == [(6, stored(topic))]


def test_nothing_is_counted_twice() -> None:
    topic = create(partitions=3)
    total = 0
    for n in range(1, 6):
        publish_many(topic, [{"value": n}] * n)
        total += n
        rollups.count_new()
        assert rollups.count_new() == 0
        assert sum(records for records, _ in minutes(topic)) == total
    assert sum(size for _, size in counts(topic)) == stored(topic) == sum(size for _, size in minutes(topic))


def test_more_than_one_statement_takes_is_counted_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "_BATCHES", 4)
    monkeypatch.setattr(rollups, "_PARTITIONS", 2)
    topic = create(partitions=5)
    for n in range(50):
        publish(topic, n, partition=n % 4)
    assert rollups.count_new() == 50
    assert sum(records for records, _ in minutes(topic)) == 50
    assert [offset for offset, _ in counts(topic)] == [13, 13, 12, 12]


def test_a_call_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "_BATCHES", 2)
    monkeypatch.setattr(rollups, "_BATCHES_OF_A_CALL", 4)
    topic = create()
    for n in range(7):
        publish(topic, n)
    assert [rollups.count_new() for _ in range(3)] == [4, 3, 0]
    assert [records for records, _ in minutes(topic)] == [7]


def test_what_retention_takes_out_of_reach_was_counted() -> None:
    topic = create(retention_ms=1000)
    publish_many(topic, [{"value": n} for n in range(5)])
    at_minute(topic, 0, since=0)
    assert retention.enforce() == 0
    rollups.count_new()
    publish(topic, "uncounted and too old")
    at_minute(topic, 1, since=5)
    assert retention.enforce() == 1
    assert rollups.count_new() == 1
    assert retention.enforce() == 1
    assert [records for records, _ in minutes(topic)] == [5, 1]
    assert counts(topic) == [(6, 0)]


def test_an_earliest_offset_raised_by_hand_loses_no_count() -> None:
    topic = create()
    for n in range(4):
        publish(topic, n)
    query("update brokers_partition p set earliest_offset = 2 from brokers_topic t where t.name = %s", topic)
    assert retention.enforce() == 0
    assert rollups.count_new() == 4
    assert [records for records, _ in minutes(topic)] == [4]
    assert retention.enforce() == 2
    assert counts(topic) == [(4, stored(topic))]


def test_compaction_changes_sizes_and_not_what_was_counted() -> None:
    topic = create(cleanup_policy="compact")
    publish_many(topic, [{"key": "a", "value": n} for n in range(10)])
    published = stored(topic)
    rollups.count_new()
    compaction.compact()
    assert stored(topic) < published
    assert minutes(topic) == [(10, published)]
    assert counts(topic) == [(10, stored(topic))]


def test_a_count_that_fails_half_way_changes_nothing() -> None:
    """One statement, so minutes and offsets move together or not at all."""
    topic = create()
    publish_many(topic, [{"value": n} for n in range(3)])
    with pytest.raises(InterruptedError), transaction.atomic():
        assert rollups.count_new() == 1
        raise InterruptedError
    assert (minutes(topic), counts(topic)) == ([], [])
    assert rollups.count_new() == 1
    assert [records for records, _ in minutes(topic)] == [3]


def test_a_topic_deleted_during_the_count_disturbs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    topic, other = create(), create()
    publish(topic, 1)
    publish(other, 1)
    count = rollups._count

    def delete_first(some: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        if topic in [row[0] for row in query("select name from brokers_topic")]:
            topics.delete(topic)
        return count(some)

    monkeypatch.setattr(rollups, "_count", delete_first)
    assert rollups.count_new() == 1
    assert [records for records, _ in minutes(other)] == [1]


def test_many_housekeepers_count_each_record_once() -> None:
    """Publishers of both kinds, and several processes' housekeepers without a pause between."""
    topic = create(partitions=2)
    stop = threading.Event()
    failures: list[BaseException] = []

    def keep_house() -> None:
        try:
            while not stop.is_set():
                housekeeping.run_alone(COUNTING)
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=keep_house) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(150):
        if n % 3:
            publish(topic, n)
        else:
            with transaction.atomic():
                publish(topic, n)
                publish(topic, n)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    rollups.count_new()
    assert sum(records for records, _ in minutes(topic)) == 200
    assert sum(size for _, size in minutes(topic)) == stored(topic) == sum(size for _, size in counts(topic))
    assert sum(offset for offset, _ in counts(topic)) == 200


def test_old_minutes_are_forgotten() -> None:
    topic = create()
    publish(topic, 1)
    at_minute(topic, 0, since=0)
    rollups.count_new()
    publish(topic, 2)
    rollups.count_new()
    assert rollups.forget_old() == 1
    assert len(minutes(topic)) == 1
