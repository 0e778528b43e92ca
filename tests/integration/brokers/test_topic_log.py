"""The log against the real PostgreSQL: offsets, transactions, reading by offset and by time."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from django.db import DatabaseError, connection, connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokers import apublish, apublish_many, database, publish, publish_many, topic_log, topics
from brokers.errors import OffsetOutOfRange, PartitionNotFound, RecordTooLarge, TopicNotFound
from brokers.record import Record

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def topic() -> str:
    topics.create("orders", partitions=3)
    return "orders"


def read_all(topic: str, partition: int) -> list[Record]:
    """Every record of a partition, a page at a time; fails when a page does not follow the one before."""
    found: list[Record] = []
    offset = 0
    while True:
        page = topic_log.fetch(topic, partition, offset, limit=7)
        if not page.records:
            return found
        assert [r.offset for r in page.records] == list(range(offset, offset + len(page.records)))
        found += page.records
        offset = page.next_offset


def test_a_record_comes_back_exactly_as_it_was_published(topic: str) -> None:
    position = publish(topic, {"b": 1.50, "a": "ü"}, key="N14228", headers={"h": "v"}, timestamp=1357034400000)
    [record] = topic_log.fetch(topic, position.partition, 0).records
    assert (record.key, record.value, record.headers) == ("N14228", {"b": 1.5, "a": "ü"}, {"h": "v"})
    assert (record.timestamp, record.offset, record.topic) == (1357034400000, 0, topic)


def test_bytes_and_tombstones_are_kept_apart_from_json(topic: str) -> None:
    values: list[object] = [b"\x00\xff", None, "text", 0, [], b""]
    for value in values:
        publish(topic, value, partition=0)
    assert [record.value for record in read_all(topic, 0)] == values


def test_the_same_key_always_goes_to_the_same_partition(topic: str) -> None:
    assert len({publish(topic, n, key="N14228").partition for n in range(20)}) == 1


def test_records_without_a_key_are_spread_evenly(topic: str) -> None:
    positions = publish_many(topic, [{"value": n} for n in range(300)])
    counts = [sum(position.partition == n for position in positions) for n in range(3)]
    assert counts == [100, 100, 100]


def test_positions_come_in_the_order_given(topic: str) -> None:
    records = [{"value": n, "key": str(n)} for n in range(50)]
    for n, position in enumerate(publish_many(topic, records)):
        assert position.offset is not None
        assert topic_log.fetch(topic, position.partition, position.offset, limit=1).records[0].value == n


def test_a_rolled_back_publish_never_appears_and_leaves_no_gap(topic: str) -> None:
    publish(topic, 1, partition=0)
    with pytest.raises(RuntimeError), transaction.atomic():
        publish(topic, "never", partition=0)
        raise RuntimeError
    with transaction.atomic():
        publish(topic, 2, partition=0)
        with pytest.raises(RuntimeError), transaction.atomic():
            publish(topic, "never", partition=0)
            raise RuntimeError
        publish(topic, 3, partition=0)
    assert [record.value for record in read_all(topic, 0)] == [1, 2, 3]


def test_a_publish_in_a_transaction_is_unseen_until_the_commit(topic: str) -> None:
    with transaction.atomic():
        assert publish(topic, 1, partition=0).offset is None
        assert topic_log.fetch(topic, 0, 0).records == []
        assert topic_log.bounds(topics.lookup(topic), 0).latest == 0
    assert [record.value for record in read_all(topic, 0)] == [1]


def publish_elsewhere(topic: str) -> None:
    publish(topic, "quick", partition=0)
    connections.close_all()


def test_a_long_transaction_does_not_hold_up_other_publishers(topic: str) -> None:
    """The lock is taken at the commit: what is published meanwhile goes first."""
    with transaction.atomic():
        publish(topic, "slow", partition=0)
        other = threading.Thread(target=publish_elsewhere, args=(topic,))
        other.start()
        other.join(5)
        assert not other.is_alive()
    assert [record.value for record in read_all(topic, 0)] == ["quick", "slow"]


def test_a_commit_into_a_deleted_topic_fails_and_stores_nothing(topic: str) -> None:
    def delete() -> None:
        topics.delete(topic)
        connections.close_all()

    def commit() -> None:
        with transaction.atomic():
            publish(topic, 1, partition=0)
            other = threading.Thread(target=delete)
            other.start()
            other.join(5)

    with pytest.raises(DatabaseError):
        commit()
    with pytest.raises(TopicNotFound):
        publish(topic, 1)


def test_offsets_start_anew_in_a_topic_of_the_same_name(topic: str) -> None:
    publish(topic, 1, partition=0)
    topics.delete(topic)
    topics.create(topic, partitions=1)
    assert publish(topic, 2).offset == 0


def test_a_partition_below_its_earliest_offset_is_out_of_range(topic: str) -> None:
    publish_many(topic, [{"value": n, "partition": 0} for n in range(5)])
    with connection.cursor() as cursor:
        cursor.execute("update brokers_partition set earliest_offset = 5 where number = 0")
    with pytest.raises(OffsetOutOfRange) as caught:
        topic_log.fetch(topic, 0, 3)
    assert (caught.value.earliest_offset, caught.value.latest_offset) == (5, 5)
    assert publish(topic, "next", partition=0).offset == 5


def test_a_fetch_past_the_end_returns_nothing_yet(topic: str) -> None:
    found = topic_log.fetch(topic, 0, 1000)
    assert (found.records, found.next_offset, found.latest_offset) == ([], 1000, 0)


def test_an_unknown_partition_is_named(topic: str) -> None:
    with pytest.raises(PartitionNotFound, match="it has 0 to 2"):
        publish(topic, 1, partition=3)
    with pytest.raises(PartitionNotFound):
        topic_log.fetch(topic, -1, 0)


def test_a_record_above_the_topics_limit_is_refused_and_nothing_is_stored() -> None:
    topics.create("small", partitions=1, max_record_bytes=100)
    publish("small", b"x" * 100)
    with pytest.raises(RecordTooLarge, match="record 1 has 101 bytes"):
        publish_many("small", [{"value": b"y"}, {"value": b"x" * 101}])
    assert topic_log.fetch("small", 0, 0).latest_offset == 1


def test_added_partitions_take_records(topic: str) -> None:
    topics.alter(topic, partitions=5)
    assert publish(topic, 1, partition=4) == (topic, 4, 0)


def test_many_large_values_become_several_batches_of_one_append(topic: str) -> None:
    positions = publish_many(topic, [{"value": bytes(400_000), "partition": 1} for _ in range(7)])
    assert [position.offset for position in positions] == list(range(7))
    with connection.cursor() as cursor:
        cursor.execute("select offset_span from brokers_log_batch order by base_offset")
        assert [row[0] for row in cursor.fetchall()] == [2, 2, 2, 1]


def test_a_fetch_stops_at_its_bytes_but_reads_one_batch_at_least(topic: str) -> None:
    for _ in range(4):
        publish(topic, bytes(1000), partition=0)
    assert len(topic_log.fetch(topic, 0, 0, max_bytes=1).records) == 1
    assert len(topic_log.fetch(topic, 0, 0, max_bytes=2500).records) == 2


async def test_the_asynchronous_forms_do_the_same() -> None:
    await asyncio.to_thread(topics.create, "async", partitions=2)
    assert await apublish("async", {"n": 1}, partition=1) == ("async", 1, 0)
    positions = await apublish_many("async", [{"value": n, "partition": n % 2} for n in range(4)])
    assert [(p.partition, p.offset) for p in positions] == [(0, 0), (1, 1), (0, 1), (1, 2)]
    found = await topic_log.afetch("async", 1, 0)
    assert [record.value for record in found.records] == [{"n": 1}, 1, 3]
    await database.close()
    await asyncio.to_thread(connections.close_all)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=5), min_size=1, max_size=12),
    sought=st.integers(0, 60),
)
def test_the_first_record_at_or_after_a_timestamp_is_found(batches: list[list[int]], sought: int) -> None:
    """Timestamps are the publishers' own, in any order; compare with a search through all records."""
    name = f"times-{time.monotonic_ns()}"
    topics.create(name, partitions=1)
    for batch in batches:
        publish_many(name, [{"value": None, "timestamp": stamp} for stamp in batch])
    stamps = [stamp for batch in batches for stamp in batch]
    expected = next((offset for offset, stamp in enumerate(stamps) if stamp >= sought), len(stamps))
    assert topic_log.offset_for_timestamp(name, 0, sought) == expected


@pytest.mark.parametrize("seed", range(2))
def test_offsets_are_dense_under_concurrent_and_rolled_back_transactions(seed: int) -> None:
    """Writers of every kind and two readers that poll without pause: no gap, no duplicate, nothing moves."""
    name, writers, rounds = f"dense-{seed}", 4, 25
    topics.create(name, partitions=2)
    expected: list[list[tuple[int, int]]] = [[] for _ in range(writers)]
    failures: list[BaseException] = []
    stop = threading.Event()

    def write(writer: int) -> None:
        try:
            for n in range(rounds):
                _one_round(name, writer, n + seed, expected[writer])
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    seen: list[dict[tuple[int, int], object]] = [{}, {}]

    def poll(reader: int) -> None:
        try:
            offsets = [0, 0]
            while True:
                last_round = stop.is_set()
                for partition in (0, 1):
                    page = topic_log.fetch(name, partition, offsets[partition], limit=50)
                    for record in page.records:
                        assert record.offset == offsets[partition], "a gap or a step back"
                        seen[reader][partition, record.offset] = tuple(record.value)
                        offsets[partition] += 1
                if last_round:
                    return
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    readers = [threading.Thread(target=poll, args=(n,)) for n in range(2)]
    threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
    for thread in readers + threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert not failures, failures
    assert seen[0] == seen[1]
    assert sorted(seen[0].values(), key=str) == sorted((x for lane in expected for x in lane), key=str)


def _one_round(name: str, writer: int, n: int, expected: list[tuple[int, int]]) -> None:
    ids = [(writer, n * 10 + k) for k in range(4)]
    if n % 4 == 0:
        publish_many(name, [{"value": list(i), "partition": k % 2} for k, i in enumerate(ids)])
        expected += ids
    elif n % 4 == 1:
        with transaction.atomic():
            for k, i in enumerate(ids):
                publish(name, list(i), partition=(k + writer) % 2)
        expected += ids
    elif n % 4 == 2:
        with pytest.raises(InterruptedError), transaction.atomic():
            publish(name, list(ids[0]), partition=0)
            raise InterruptedError
    else:
        with transaction.atomic():
            publish(name, list(ids[0]), partition=1)
            with pytest.raises(InterruptedError), transaction.atomic():
                publish(name, list(ids[1]), partition=0)
                raise InterruptedError
            publish(name, list(ids[2]), partition=0)
        expected += [ids[0], ids[2]]


def test_no_staged_batch_outlives_its_transaction(topic: str) -> None:
    with transaction.atomic():
        publish(topic, 1)
    with pytest.raises(InterruptedError), transaction.atomic():
        publish(topic, 1)
        raise InterruptedError
    with connection.cursor() as cursor:
        cursor.execute(
            "select (select count(*) from brokers_log_pending),"
            " (select count(*) from brokers_log_batch where base_offset < 0)"
        )
        assert cursor.fetchone() == (0, 0)


def test_fetching_and_appending_use_the_primary_key(topic: str) -> None:
    publish_many(topic, [{"value": n, "partition": 0} for n in range(10)])
    statements = (
        "select base_offset from brokers_log_batch where partition_id = 1 and base_offset >= 0"
        " order by base_offset desc limit 1",
        "select base_offset from brokers_log_batch where partition_id = 1 and base_offset between 0 and 5"
        " order by base_offset desc limit 1",
        "select payload from brokers_log_batch where partition_id = 1 and base_offset >= 5"
        " order by base_offset limit 101",
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into brokers_log_batch select 1, n, 1, 0, 0, 0, 0, 1, '' from generate_series(1, 20000) n"
        )
        cursor.execute("analyze brokers_log_batch")
        for statement in statements:
            cursor.execute(f"explain {statement}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "brokers_log_batch_pkey" in plan, plan
            assert "Sort" not in plan, plan
            assert "Seq Scan" not in plan, plan
