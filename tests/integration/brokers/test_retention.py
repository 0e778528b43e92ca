"""Retention against the real PostgreSQL: whole oldest batches go when they are too old or too many, nothing else."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection, connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokers import publish, publish_many, retention, rollups, topic_log, topics
from brokers.errors import OffsetOutOfRange, TopicNotFound
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = 3_600_000


def query(text: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
        return list(cursor.fetchall()) if cursor.description else []


def create(**options: Any) -> str:
    name = unique()
    topics.create(name, **{"partitions": 1, "retention_ms": None} | options)
    return name


def age(topic: str, milliseconds: int, below: int = 2**62) -> None:
    """Moves the storing time of batches below an offset back, instead of waiting."""
    query(
        "update brokers_log_batch b set stored_at = stored_at - %s from brokers_partition p, brokers_topic t"
        " where b.partition_id = p.id and p.topic_id = t.id and t.name = %s and b.base_offset < %s",
        milliseconds,
        topic,
        below,
    )


def enforce() -> int:
    """As housekeeping does it: what came is counted first."""
    rollups.count_new()
    return retention.enforce()


def sizes(topic: str, partition: int = 0) -> list[tuple[int, int]]:
    """Base offset and bytes of each batch that is in the table, kept or not."""
    number = topics.lookup(topic).partition_id(partition)
    return query(
        "select base_offset, octet_length(payload) from brokers_log_batch where partition_id = %s order by 1", number
    )


def counted(topic: str, partition: int = 0) -> tuple[int, int]:
    """What the roll-ups say of bytes, and what is really there from the earliest offset on."""
    number = topics.lookup(topic).partition_id(partition)
    [row] = query(
        "select coalesce(c.counted_bytes, 0), (select coalesce(sum(octet_length(payload)), 0) from brokers_log_batch b"
        " where b.partition_id = p.id and b.base_offset >= p.earliest_offset)"
        " from brokers_partition p left join brokers_partition_count c on c.partition_id = p.id where p.id = %s",
        number,
    )
    return int(row[0]), int(row[1])


def bounds(topic: str, partition: int = 0) -> tuple[int, int]:
    return tuple(topic_log.bounds(topics.lookup(topic), partition))  # type: ignore[return-value]


def values(topic: str) -> list[Any]:
    earliest, latest = bounds(topic)
    return [record.value for record in topic_log.fetch(topic, 0, earliest, limit=latest + 1).records]


# -- by time -----------------------------------------------------------------------------------------------------


def test_batches_older_than_the_topics_time_go() -> None:
    topic = create(retention_ms=HOUR)
    for n in range(4):
        publish_many(topic, [{"value": n}] * 5)
    age(topic, HOUR + 1000, below=10)
    assert enforce() == 2
    assert bounds(topic) == (10, 20)
    assert values(topic) == [2] * 5 + [3] * 5
    assert counted(topic)[0] == counted(topic)[1]


def test_the_publishers_timestamps_do_not_count() -> None:
    topic = create(retention_ms=HOUR)
    publish(topic, "from 2013", timestamp=1_357_034_400_000)
    publish(topic, "from the future", timestamp=9_999_999_999_999)
    assert enforce() == 0
    age(topic, HOUR + 1000)
    assert enforce() == 2


def test_a_young_batch_shields_older_ones_behind_it() -> None:
    """The clock may have been set back: offsets never go out of their order."""
    topic = create(retention_ms=HOUR)
    for n in range(3):
        publish(topic, n)
    query("update brokers_log_batch set stored_at = stored_at - %s where base_offset > 0", 2 * HOUR)
    assert enforce() == 0
    assert bounds(topic) == (0, 3)


def test_without_limits_nothing_goes() -> None:
    topic = create()
    publish(topic, 1)
    age(topic, 10**10)
    assert enforce() == 0


def test_a_reader_below_the_earliest_offset_gets_both_bounds() -> None:
    topic = create(retention_ms=HOUR)
    publish_many(topic, [{"value": n} for n in range(3)])
    age(topic, HOUR + 1000)
    publish(topic, "kept")
    enforce()
    with pytest.raises(OffsetOutOfRange) as caught:
        topic_log.fetch(topic, 0, 2)
    assert (caught.value.earliest_offset, caught.value.latest_offset) == (3, 4)
    assert topic_log.fetch(topic, 0, 3).records[0].value == "kept"


def test_appends_go_on_at_the_right_offset_when_everything_was_removed() -> None:
    topic = create(retention_ms=HOUR)
    publish_many(topic, [{"value": n} for n in range(7)])
    age(topic, HOUR + 1000)
    assert enforce() == 1
    assert sizes(topic) == []
    assert bounds(topic) == (7, 7)
    assert topic_log.offset_for_timestamp(topic, 0, 0) == 7
    assert publish(topic, "next").offset == 7
    assert values(topic) == ["next"]


# -- by size -----------------------------------------------------------------------------------------------------


def test_a_partition_keeps_at_least_the_bytes_of_its_limit() -> None:
    """Kafka's rule: a batch goes only when the limit's bytes remain without it."""
    topic = create(retention_bytes=2500)
    for _ in range(5):
        publish(topic, bytes(1000))
    size = sizes(topic)[0][1]
    assert 1000 < size < 1100
    enforce()
    assert bounds(topic) == (2, 5)
    assert counted(topic) == (3 * size, 3 * size)
    assert enforce() == 0


def test_the_limit_holds_for_each_partition_alone() -> None:
    topic = create(partitions=2, retention_bytes=2500)
    for n in range(6):
        publish(topic, bytes(1000), partition=0 if n < 5 else 1)
    enforce()
    assert (bounds(topic, 0), bounds(topic, 1)) == ((2, 5), (0, 1))


def test_a_removal_that_was_cut_short_does_not_take_more_than_the_limit_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are out of reach and not yet removed must not count as kept ones."""
    monkeypatch.setattr(retention, "REMOVED_AT_ONCE", 1)
    monkeypatch.setattr(retention, "STEPS", 1)
    topic = create(retention_bytes=2500)
    for _ in range(9):
        publish(topic, bytes(1000))
    for _ in range(8):
        enforce()
        assert bounds(topic) == (6, 9)
    assert [base for base, _ in sizes(topic)] == [6, 7, 8]


# -- halves, bounds and neighbours ---------------------------------------------------------------------------------


def test_a_crash_between_the_halves_loses_and_repeats_nothing() -> None:
    topic = create(retention_ms=HOUR)
    for n in range(4):
        publish(topic, n)
    age(topic, HOUR + 1000, below=2)
    rollups.count_new()
    assert retention.raise_earliest() == 1
    assert len(sizes(topic)) == 4
    assert bounds(topic) == (2, 4)
    assert values(topic) == [2, 3]
    assert counted(topic)[0] == counted(topic)[1]
    assert publish(topic, "meanwhile").offset == 4
    assert enforce() == 2
    assert len(sizes(topic)) == 3
    assert values(topic) == [2, 3, "meanwhile"]
    assert counted(topic)[0] == counted(topic)[1]


def test_what_is_not_counted_yet_stays_until_it_is() -> None:
    topic = create(retention_ms=HOUR)
    publish(topic, 1)
    age(topic, HOUR + 1000)
    assert retention.enforce() == 0
    assert enforce() == 1


def test_a_call_looks_at_a_bounded_number_of_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LOOKED_AT", 10)
    monkeypatch.setattr(retention, "REMOVED_AT_ONCE", 3)
    monkeypatch.setattr(retention, "STEPS", 3)
    topic = create(retention_ms=HOUR)
    for n in range(25):
        publish(topic, n)
    age(topic, HOUR + 1000)
    assert [enforce() for _ in range(4)] == [9, 9, 7, 0]
    assert bounds(topic) == (25, 25)


def test_it_stops_when_the_process_does() -> None:
    topic = create(retention_ms=HOUR)
    publish(topic, 1)
    age(topic, HOUR + 1000)
    rollups.count_new()
    assert retention.enforce(lambda: False) == 0
    assert bounds(topic) == (0, 1)


def test_many_partitions_that_stay_a_little_over_their_limit_do_not_hide_one_that_is_far_over() -> None:
    """A call looks at the first thousand partitions: only such count from which something can go."""
    [[crowd]] = query(
        "insert into brokers_topic (name, partitioner, retention_bytes, max_record_bytes, cleanup_policy)"
        " values (%s, 'crc32', 1000, 1000000, 'delete') returning id",
        unique("crowd"),
    )
    query(
        "insert into brokers_partition (topic_id, number, earliest_offset)"
        " select %s, n, 0 from generate_series(0, 1099) n",
        crowd,
    )
    query(
        "insert into brokers_log_batch select id, n, 1, 0, 0, 0, 0, 1, %s"
        " from brokers_partition, generate_series(0, 1) n where topic_id = %s",
        bytes(900),
        crowd,
    )
    query(
        "insert into brokers_partition_count select id, 2, 1800, 0, 0 from brokers_partition where topic_id = %s", crowd
    )
    topic = create(retention_bytes=2500)
    for _ in range(5):
        publish(topic, bytes(1000))
    enforce()
    assert bounds(topic) == (2, 5)


def test_appends_go_on_while_retention_removes() -> None:
    """Publishers and readers against retention by size, without a pause: dense, in order, never below the limit."""
    topic = create(retention_bytes=20_000)
    stop = threading.Event()
    failures: list[BaseException] = []

    def sweep() -> None:
        try:
            while not stop.is_set():
                enforce()
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    def read() -> None:
        offset = 0
        try:
            while not stop.is_set():
                try:
                    page = topic_log.fetch(topic, 0, offset, limit=10)
                except OffsetOutOfRange as error:
                    offset = max(error.earliest_offset, offset + 1)
                    continue
                for record in page.records:
                    assert record.offset == offset
                    assert record.value_bytes == b"%d" % offset + bytes(500)
                    offset += 1
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=sweep), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for n in range(400):
        assert publish(topic, b"%d" % n + bytes(500)).offset == n
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    enforce()
    earliest, latest = bounds(topic)
    assert latest == 400
    kept, really = counted(topic)
    assert kept == really
    assert 20_000 <= kept < 20_000 + 600
    assert [base for base, _ in sizes(topic)] == list(range(earliest, 400))


# -- deleted topics ------------------------------------------------------------------------------------------------


def test_a_deleted_topics_storage_is_freed() -> None:
    topic = create(partitions=2)
    for n in range(400):
        publish(topic, n, partition=0)
    publish(topic, 1, partition=1)
    ids = topics.lookup(topic).partition_ids
    other = create()
    publish(other, "stays")
    topics.delete(topic)
    with pytest.raises(TopicNotFound):
        publish(topic, 1)
    assert retention.remove_deleted_topics() == 401
    assert query("select count(*) from brokers_log_batch where partition_id = any(%s)", list(ids)) == [(0,)]
    assert query("select count(*) from brokers_deleted_partition") == [(0,)]
    assert retention.remove_deleted_topics() == 0
    assert values(other) == ["stays"]


def test_freeing_goes_on_where_it_was_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEPS", 1)
    topic = create()
    for n in range(200):
        publish(topic, n)
    topics.delete(topic)
    assert [retention.remove_deleted_topics() for _ in range(3)] == [150, 50, 0]
    assert query("select count(*) from brokers_log_batch") == [(0,)]


# -- for any sequence of events ------------------------------------------------------------------------------------

actions = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 4)),
        st.tuples(st.just("pass time"), st.integers(1, 3)),
        st.tuples(st.just("enforce"), st.integers(1, 3)),
        st.tuples(st.just("raise only"), st.just(0)),
    ),
    min_size=3,
    max_size=25,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    actions=actions,
    retention_hours=st.none() | st.integers(1, 4),
    retention_bytes=st.none() | st.integers(1, 1500),
)
def test_nothing_younger_than_the_policy_goes(
    actions: list[tuple[str, int]], retention_hours: int | None, retention_bytes: int | None
) -> None:
    """The model knows each batch's age and size: exactly what the policy allows to go has gone, and no more."""
    topic = create(retention_ms=retention_hours and retention_hours * HOUR + HOUR // 2, retention_bytes=retention_bytes)
    batches: list[Batch] = []
    latest = lowest = 0
    for action, amount in actions:
        if action == "publish":
            assert publish_many(topic, [{"value": bytes(100)}] * amount)[0].offset == latest
            batches.append(Batch(latest, sizes(topic)[-1][1]))
            latest += amount
        elif action == "pass time":
            age(topic, amount * HOUR)
            for batch in batches:
                batch.hours += amount
        elif action == "raise only":
            rollups.count_new()
            retention.raise_earliest()
        else:
            for _ in range(amount):
                enforce()
        earliest, end = bounds(topic)
        assert (end, earliest >= lowest) == (latest, True)
        kept = [batch for batch in batches if batch.base >= earliest]
        assert [(batch.base, batch.size) for batch in kept] == [row for row in sizes(topic) if row[0] >= earliest]
        rollups.count_new()
        assert counted(topic) == (sum(batch.size for batch in kept),) * 2
        for index, batch in enumerate(batches):
            too_old = retention_hours is not None and batch.hours > retention_hours
            behind = sum(other.size for other in batches[index + 1 :])
            too_much = retention_bytes is not None and behind >= retention_bytes
            if lowest <= batch.base < earliest:
                assert too_old or too_much, f"the batch at {batch.base} was within the policy"
            elif batch.base == earliest and action in ("enforce", "raise only"):
                assert not too_old, f"the batch at {batch.base} is too old"
                assert not too_much, f"the batch at {batch.base} is too much"
        lowest = earliest
    topics.delete(topic)


@dataclass
class Batch:
    base: int
    size: int
    hours: int = 0
