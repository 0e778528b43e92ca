"""Compaction against the real PostgreSQL: the last record of each key stays, at its offset and in its order."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection, connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokers import compaction, database, housekeeping, publish, publish_many, retention, rollups, topic_log, topics
from brokers.record import Record
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

DAY = 86_400_000


def query(text: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
        return list(cursor.fetchall()) if cursor.description else []


@pytest.fixture
def topic() -> str:
    name = unique()
    topics.create(name, partitions=1, cleanup_policy="compact")
    return name


def compact(ratio: float = 0.0) -> int:
    """As housekeeping does it: what came is counted first. A ratio of 0 takes whatever is new."""
    rollups.count_new()
    return compaction.compact(dirty_ratio=ratio)


def put(topic: str, *pairs: tuple[str, Any]) -> None:
    """One batch of keys and values."""
    publish_many(topic, [{"key": key, "value": value} for key, value in pairs])


def kept(topic: str, start: int = 0, limit: int = 3) -> list[tuple[int, str | None, Any]]:
    """Offset, key and value of each record, read in small pages until the end of the log."""
    found: list[Record] = []
    offset, end = start, latest(topic)
    while offset < end:
        page = topic_log.fetch(topic, 0, offset, limit=limit)
        assert page.next_offset > offset, "no progress"
        assert all(offset <= record.offset < page.next_offset for record in page.records)
        assert page.records or page.next_offset >= end, "an empty answer before the end"
        found += page.records
        offset = page.next_offset
    offsets = [record.offset for record in found]
    assert offsets == sorted(set(offsets))
    return [(record.offset, record.key, record.value) for record in found]


def latest(topic: str) -> int:
    return topic_log.bounds(topics.lookup(topic), 0).latest


def batches(topic: str) -> list[tuple[int, int]]:
    """Base offset and span of the batches that are there."""
    number = topics.lookup(topic).partition_id(0)
    return query("select base_offset, offset_span from brokers_log_batch where partition_id = %s order by 1", number)


def age(topic: str, milliseconds: int = DAY + 1000) -> None:
    number = topics.lookup(topic).partition_id(0)
    query("update brokers_log_batch set stored_at = stored_at - %s where partition_id = %s", milliseconds, number)


def counted_exactly(topic: str) -> bool:
    number = topics.lookup(topic).partition_id(0)
    [row] = query(
        "select counted_bytes, (select sum(octet_length(payload)) from brokers_log_batch b"
        " where b.partition_id = c.partition_id) from brokers_partition_count c where partition_id = %s",
        number,
    )
    return int(row[0]) == int(row[1])


def test_the_last_record_of_each_key_stays_at_its_offset(topic: str) -> None:
    put(topic, ("a", 1), ("b", 1), ("a", 2))
    put(topic, ("c", 1), ("b", 2))
    put(topic, ("a", 3))
    assert compact() == 3
    assert kept(topic) == [(3, "c", 1), (4, "b", 2), (5, "a", 3)]
    assert batches(topic) == [(3, 2), (5, 1)]
    assert counted_exactly(topic)
    assert compact() == 0


def test_headers_timestamps_and_bytes_survive(topic: str) -> None:
    publish(topic, {"old": True}, key="k")
    publish(topic, b"\x00\xff", key=b"\xff", headers={"h": "v"}, timestamp=1_357_034_400_000)
    put(topic, ("k", "new"), ("x", None))
    before = topic_log.fetch(topic, 0, 1).records
    compact()
    after = topic_log.fetch(topic, 0, 0).records
    assert [(r.offset, r.key_bytes, r.value_bytes, r.encoding, r.headers, r.timestamp) for r in after] == [
        (r.offset, r.key_bytes, r.value_bytes, r.encoding, r.headers, r.timestamp) for r in before
    ]


def test_long_keys_are_told_apart(topic: str) -> None:
    long = "x" * 5000
    put(topic, (long + "1", 1), (long + "2", 1), (long + "1", 2), ("y" * 32, 1), ("y" * 31, 1), ("y" * 32, 2))
    assert compact() == 2
    assert [value for _, _, value in kept(topic)] == [1, 2, 1, 2]


def test_a_tombstone_stays_for_a_day_and_then_goes(topic: str) -> None:
    put(topic, ("a", 1), ("b", 1))
    put(topic, ("a", None))
    put(topic, ("c", 1))
    assert compact() == 1
    assert kept(topic) == [(1, "b", 1), (2, "a", None), (3, "c", 1)]
    age(topic)
    put(topic, ("c", 2))
    assert compact() == 2
    assert kept(topic) == [(1, "b", 1), (4, "c", 2)]


def test_a_tombstone_followed_by_a_value_goes_at_once(topic: str) -> None:
    put(topic, ("a", 1), ("a", None), ("a", 2))
    compact()
    assert kept(topic) == [(2, "a", 2)]


def test_the_next_offset_never_changes_even_when_nothing_is_left(topic: str) -> None:
    put(topic, ("a", 1))
    put(topic, ("a", None), ("a", None))
    age(topic)
    compact()
    assert kept(topic) == []
    assert batches(topic) == [(1, 2)], "the newest batch stays, emptied in place"
    assert latest(topic) == 3
    assert topic_log.offset_for_timestamp(topic, 0, 0) == 3
    put(topic, ("a", 2))
    assert kept(topic) == [(3, "a", 2)]
    assert topic_log.offset_for_timestamp(topic, 0, 0) == 3
    compact()
    assert batches(topic) == [(3, 1)], "an emptied batch goes when it is no longer the newest"
    assert counted_exactly(topic)


def test_reading_passes_over_gaps(topic: str) -> None:
    put(topic, ("a", 0), *[("x", n) for n in range(20)])
    put(topic, *[("y", n) for n in range(20)])
    put(topic, ("x", "last"), ("y", "last"), ("z", 0))
    compact()
    expected = [(0, "a", 0), (41, "x", "last"), (42, "y", "last"), (43, "z", 0)]
    for start in range(45):
        for limit in (1, 2, 100):
            assert kept(topic, start, limit) == [entry for entry in expected if entry[0] >= start]
    page = topic_log.fetch(topic, 0, 5, limit=2)
    assert ([record.offset for record in page.records], page.next_offset) == ([41, 42], 43)


async def test_the_asynchronous_reading_passes_over_gaps_too() -> None:
    name = unique()

    def prepare() -> None:
        topics.create(name, partitions=1, cleanup_policy="compact")
        put(name, ("a", 0), *[("x", n) for n in range(20)])
        put(name, ("x", "last"))
        compact()
        connections.close_all()

    await asyncio.to_thread(prepare)
    page = await topic_log.afetch(name, 0, 3, limit=2)
    assert [record.offset for record in page.records] == [21]
    assert await topic_log.aoffset_at(topics.lookup(name), 0, 0) == 0
    await database.close()


def test_a_timestamp_is_found_among_what_is_left(topic: str) -> None:
    for n, key in enumerate("abcab"):
        publish(topic, n, key=key, timestamp=1000 * n)
    compact()
    assert [offset for offset, _, _ in kept(topic)] == [2, 3, 4]
    assert [topic_log.offset_for_timestamp(topic, 0, stamp) for stamp in (0, 1000, 2000, 2001, 3500, 4001)] == [
        2, 2, 2, 3, 4, 5,
    ]  # fmt: skip


def test_it_waits_until_half_of_the_bytes_are_new(topic: str) -> None:
    """By bytes, as in Kafka: offsets never shrink, and would put it off for ever longer."""
    put(topic, *[(str(n), bytes(100)) for n in range(50)])
    assert compact(0.5) == 0
    for _ in range(20):
        put(topic, *[(str(n), bytes(100)) for n in range(30)])
        assert compact(0.5) == 0, "less than half is new"
        put(topic, *[(str(n), bytes(100)) for n in range(30)])
        assert compact(0.5) == 60, "more than half is new"
        assert len(kept(topic, limit=1000)) == 50
    assert counted_exactly(topic)


def test_a_run_stops_at_its_keys_and_the_next_one_goes_on(topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MAX_KEYS", 3)
    monkeypatch.setattr(compaction, "BATCHES_AT_ONCE", 1)
    expected: dict[str | None, int] = {}
    for n in range(12):
        pairs = (f"k{n % 6}", n), (f"k{(n + 1) % 6}", n)
        put(topic, *pairs)
        expected |= dict(pairs)
    for _ in range(12):
        compact()
        last = {key: value for _, key, value in kept(topic)}
        assert last == expected
    assert len(kept(topic)) == 6
    assert latest(topic) == 24
    assert counted_exactly(topic)


def test_a_run_that_is_stopped_loses_nothing_and_is_begun_anew(topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "BATCHES_AT_ONCE", 1)
    for n in range(10):
        put(topic, ("a", n), (f"k{n}", n))
    rollups.count_new()
    answers = iter([True] * 15 + [False] * 100)
    compaction.compact(lambda: next(answers), dirty_ratio=0.0)
    assert counted_exactly(topic)
    assert {key: value for _, key, value in kept(topic)} == {"a": 9} | {f"k{n}": n for n in range(10)}
    assert len(kept(topic)) > 11
    compact()
    assert len(kept(topic)) == 11
    assert counted_exactly(topic)


def test_memory_is_bounded_by_bytes_not_by_batches(topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "BYTES_AT_ONCE", 1000)
    for n in range(10):
        put(topic, (f"k{n % 2}", bytes(400)))
    rollups.count_new()
    [partition] = compaction.dirty_partitions(0.0)
    with database.sync_cursor() as cursor:
        assert len(compaction._batches(cursor, partition, 0, 10)) == 3
    assert compact() == 8


def test_a_batch_that_cannot_be_decoded_stops_neither_the_others_nor_the_process(
    topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(topic, ("a", 1), ("a", 2))
    query("update brokers_log_batch set payload = '\\xc1'")
    other = unique()
    topics.create(other, partitions=1, cleanup_policy="compact")
    put(other, ("a", 1), ("a", 2))
    assert compact() == 1
    assert "a batch cannot be decoded" in caplog.text
    assert kept(other) == [(1, "a", 2)]


def test_what_is_not_counted_yet_is_left_alone(topic: str) -> None:
    """Else the minutes would count what compaction left instead of what was published."""
    put(topic, ("a", 1), ("a", 2))
    assert compaction.compact(dirty_ratio=0.0) == 0
    rollups.count_new()
    put(topic, ("a", 3))
    assert compaction.compact(dirty_ratio=0.0) == 1
    assert kept(topic) == [(1, "a", 2), (2, "a", 3)]


def test_only_compacted_topics_are_compacted() -> None:
    name = unique()
    topics.create(name, partitions=1)
    put(name, ("a", 1), ("a", 2))
    assert compact() == 0
    assert len(kept(name)) == 2


def test_a_topic_deleted_meanwhile_ends_its_run(topic: str) -> None:
    put(topic, ("a", 1), ("a", 2))
    rollups.count_new()
    dirty = compaction.dirty_partitions(0.0)
    topics.delete(topic)
    assert [compaction.compact_partition(partition) for partition in dirty] == [0]
    assert query("select * from brokers_partition_count") == []


def test_retention_takes_over_what_compaction_left(topic: str) -> None:
    """The policy was changed: removed batches leave gaps below which nothing is found any more."""
    for n in range(6):
        put(topic, ("a", n), (f"k{n}", n))
    compact()
    put(topic, ("b", 1))
    topics.alter(topic, cleanup_policy="delete", retention_ms=DAY)
    number = topics.lookup(topic).partition_id(0)
    query("update brokers_log_batch set stored_at = 0 where partition_id = %s and base_offset < 6", number)
    rollups.count_new()
    retention.raise_earliest()
    assert counted_exactly(topic) is False
    assert topic_log.offset_for_timestamp(topic, 0, 0) == 7
    assert [offset for offset, _, _ in kept(topic, 6)] == [7, 9, 10, 11, 12]
    assert retention.remove_below_earliest() == 3
    assert counted_exactly(topic)
    topics.alter(topic, cleanup_policy="compact")
    put(topic, ("b", 2))
    compact()
    assert [offset for offset, _, _ in kept(topic, 6)] == [7, 9, 10, 11, 13]
    assert counted_exactly(topic)


def test_publishing_goes_on_while_it_runs(topic: str) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def sweep() -> None:
        try:
            while not stop.is_set():
                compact(0.2)
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    def follow() -> None:
        """A reader that starts again and again must end with the last value of each key that it was promised."""
        try:
            while not stop.is_set():
                floor = dict(acknowledged)
                seen = {key: value for _, key, value in kept(topic, limit=50)}
                assert all(seen[key] >= value for key, value in floor.items()), (floor, seen)
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    acknowledged: dict[str, int] = {}
    threads = [threading.Thread(target=sweep), threading.Thread(target=follow)]
    for thread in threads:
        thread.start()
    for n in range(250):
        assert publish(topic, n, key=f"k{n % 7}").offset == n
        acknowledged[f"k{n % 7}"] = n
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    compact()
    assert kept(topic) == [(n, f"k{n % 7}", n) for n in range(243, 250)]


@dataclass
class Model:
    """What was published: key, value, and whether its tombstone is older than a day."""

    records: list[tuple[str, int | None]] = field(default_factory=list)
    old: int = 0
    """Records below this offset were stored more than a day ago."""

    def must_stay(self) -> list[tuple[int, str, int | None]]:
        """The last record of each key, but for tombstones that may go."""
        last = {key: offset for offset, (key, _) in enumerate(self.records)}
        return [
            (offset, key, self.records[offset][1])
            for key, offset in sorted(last.items(), key=lambda entry: entry[1])
            if self.records[offset][1] is not None or offset >= self.old
        ]


steps = st.lists(
    st.one_of(
        st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 9)), min_size=1, max_size=4),
        st.just("compact"),
        st.just("compact a part"),
        st.just("a day passes"),
    ),
    min_size=2,
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_for_any_sequence_the_last_of_each_key_stays(steps: list[Any]) -> None:
    name = unique()
    topics.create(name, partitions=1, cleanup_policy="compact")
    model = Model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "BATCHES_AT_ONCE", 2)
        for step in [*steps, "compact"]:
            if step == "a day passes":
                age(name)
                model.old = len(model.records)
            elif step == "compact a part":
                patch.setattr(compaction, "MAX_KEYS", 1)
                compact()
                patch.setattr(compaction, "MAX_KEYS", 1000)
            elif step == "compact":
                new = latest(name) > 0 and batches(name)[-1][0] >= 0
                assert new or not model.records
                compact()
            else:
                put(name, *step)
                model.records += step
            found = kept(name)
            assert set(model.must_stay()) <= set(found), "the last record of a key is gone"
            assert all(model.records[offset] == (key, value) for offset, key, value in found)
            assert latest(name) == len(model.records)
            if model.records:
                rollups.count_new()
                assert counted_exactly(name)
    if steps[-1] not in ("compact", "compact a part", "a day passes"):
        assert kept(name) == model.must_stay(), "a run over new records leaves nothing but the last of each key"
    topics.delete(name)


def test_it_runs_as_a_slow_job() -> None:
    assert compaction.compact in [job.run for job in housekeeping.SLOW]
