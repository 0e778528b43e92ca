"""Planning a publish: which partition, which batch, and at which place each record ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers import codec, outgoing, partitioner
from brokers.codec import Row
from brokers.errors import InvalidValue, KeyRequired, PartitionNotFound, RecordTooLarge
from brokers.outgoing import Outgoing, Plan, plan
from brokers.record import RAW, Record
from brokers.topics import TopicInfo


def topic(partitions: int = 3, **settings: Any) -> TopicInfo:
    given: dict[str, Any] = {"partitioner": "crc32", "max_record_bytes": 1_000_000, "compacted": False} | settings
    return TopicInfo(id=1, name="t", partition_ids=tuple(range(100, 100 + partitions)), **given)


def row(value: bytes | None = b"v", key: bytes | None = None, timestamp: int | None = 0) -> Row:
    return (timestamp, key, value, RAW, {})


def stored(made: Plan) -> dict[tuple[int, int], Record]:
    """What the log would hold if each partition began at offset 0, and checks the batches' order."""
    numbers = [number for number, _ in made.batches]
    assert numbers == sorted(numbers)
    found: dict[tuple[int, int], Record] = {}
    ends: dict[int, int] = {}
    for number, batch in made.batches:
        base = ends.get(number, 0)
        ends[number] = base + batch.record_count
        for record in codec.decode("t", number, base, batch.base_ts, batch.codec, batch.payload):
            found[number, record.offset] = record
    return found


def bases(made: Plan) -> list[int]:
    ends: dict[int, int] = {}
    answer = []
    for number, batch in made.batches:
        answer.append(ends.get(number, 0))
        ends[number] = answer[-1] + batch.record_count
    return answer


@given(
    count=st.integers(1, 5),
    records=st.lists(
        st.tuples(st.none() | st.binary(max_size=3), st.none() | st.integers(0, 4)), min_size=1, max_size=60
    ),
    stamped=st.booleans(),
)
def test_every_record_is_where_the_answer_says(
    count: int, records: list[tuple[bytes | None, int | None]], stamped: bool
) -> None:
    rows = [row(b"%d" % n, key, n if stamped else 0) for n, (key, _) in enumerate(records)]
    named = [None if number is None else number % count for _, number in records]
    partitions = named if any(number is not None for number in named) else None
    made = plan(topic(count), Outgoing(rows, partitions, stamped))
    log = stored(made)
    positions = made.positions(bases(made))
    assert len(log) == len(records) == len(positions)
    assert list(positions.pairs()) == [(p.partition, p.offset) for p in positions]
    last: dict[int, int] = {}
    for n, (position, (key, _)) in enumerate(zip(positions, records, strict=True)):
        assert position.offset is not None
        record = log[position.partition, position.offset]
        assert (record.value_bytes, record.key_bytes) == (b"%d" % n, key)
        if stamped:
            assert record.timestamp == n
        if named[n] is not None:
            assert position.partition == named[n]
        elif key:
            assert position.partition == partitioner.crc32_partition(key, count)
        assert last.get(position.partition, -1) < position.offset
        last[position.partition] = position.offset
    assert all(p.offset is None for p in made.positions(None))
    assert made.partition_ids() == {100 + number for number, _ in made.batches}


def test_positions_behave_as_a_sequence() -> None:
    made = plan(topic(1), Outgoing([row(), row(), row()]))
    positions = made.positions([5])
    assert positions[-1] == ("t", 0, 7)
    assert positions[1:] == [("t", 0, 6), ("t", 0, 7)]
    assert positions == [("t", 0, 5), ("t", 0, 6), ("t", 0, 7)]
    for index in (3, -4):
        with pytest.raises(IndexError):
            positions[index]


def test_murmur2_places_keys_where_kafkas_java_producer_does() -> None:
    made = plan(topic(7, partitioner="murmur2"), Outgoing([row(key=b"%d" % n) for n in range(50)]))
    assert [p.partition for p in made.positions(bases(made))] == [
        partitioner.murmur2_partition(b"%d" % n, 7) for n in range(50)
    ]


def test_an_empty_key_is_spread_like_none() -> None:
    made = plan(topic(3), Outgoing([row(key=b"") for _ in range(30)]))
    assert sorted(batch.record_count for _, batch in made.batches) == [10, 10, 10]


def test_a_partitioner_that_is_not_loaded_refuses_only_records_with_keys_to_place() -> None:
    info = topic(3, partitioner="shop.place")
    with pytest.raises(InvalidValue, match="load the app that declares it"):
        plan(info, Outgoing([row(key=b"k")]))
    assert plan(info, Outgoing([row(key=b"k")], [1])).batches[0][0] == 1


@pytest.mark.parametrize("number", [-1, 3, 2**40])
def test_a_partition_that_is_not_there_is_refused(number: int) -> None:
    with pytest.raises(PartitionNotFound):
        plan(topic(3), Outgoing([row(), row()], [0, number]))
    with pytest.raises(PartitionNotFound):
        plan(topic(1), Outgoing([row()], [number]))


def test_a_batch_holds_at_most_1000_records() -> None:
    made = plan(topic(1), Outgoing([row(b"%d" % n) for n in range(2500)]))
    assert [batch.record_count for _, batch in made.batches] == [1000, 1000, 500]
    log = stored(made)
    assert [log[0, n].value_bytes for n in range(2500)] == [b"%d" % n for n in range(2500)]


@pytest.mark.parametrize(
    "large",
    [
        (0, b"k", bytes(300_000), RAW, {}),
        (0, bytes(8_000), b"v", RAW, {"h": "x" * 16_000}),
    ],
    ids=["values", "keys and headers"],
)
def test_a_batch_stays_near_a_mebibyte_whatever_fills_it(large: Row) -> None:
    made = plan(topic(1), Outgoing([large] * 200))
    assert sum(batch.record_count for _, batch in made.batches) == 200
    assert max(len(batch.payload) for _, batch in made.batches) < 1.1 * 1024 * 1024


def test_a_record_above_a_mebibyte_is_a_batch_of_its_own() -> None:
    made = plan(topic(1, max_record_bytes=5_000_000), Outgoing([row(), row(bytes(2_000_000)), row()]))
    assert [batch.record_count for _, batch in made.batches] == [1, 1, 1]


def test_a_records_size_is_that_of_key_value_and_headers_in_utf_8() -> None:
    fits: Row = (0, b"k" * 10, b"v" * 80, RAW, {"ü": "h" * 8})
    assert outgoing.size_of(fits) == 100
    plan(topic(1, max_record_bytes=100), Outgoing([fits]))
    over: Row = (0, b"k" * 10, b"v" * 80, RAW, {"ü": "h" * 9})
    with pytest.raises(RecordTooLarge, match="record 2 has 101 bytes; t takes 100") as caught:
        plan(topic(2, max_record_bytes=100), Outgoing([fits, fits, over]))
    assert caught.value.errors[0][0] == "/records/2"


@pytest.mark.parametrize("key", [None, b""])
def test_a_compacted_topic_needs_keys(key: bytes | None) -> None:
    rows = [row(key=b"k"), row(key=key)]
    with pytest.raises(KeyRequired) as caught:
        plan(topic(compacted=True), Outgoing(rows))
    assert [pointer for pointer, _ in caught.value.errors] == ["/records/1/key"]


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.booleans(), st.none() | st.integers(0, 2)),
        min_size=1,
        max_size=6,
    )
)
def test_requests_that_are_joined_keep_their_order_partitions_and_times(
    shapes: list[tuple[int, bool, int | None]],
) -> None:
    parts, expected = [], []
    for index, (size, stamped, partition) in enumerate(shapes):
        rows = [row(b"%d-%d" % (index, n), None, index if stamped else 0) for n in range(size)]
        parts.append(Outgoing(rows, None if partition is None else [partition] * size, stamped))
        expected += [(record[2], partition, index if stamped else None) for record in rows]
    joined = Outgoing.joined(parts)
    made = plan(topic(3), joined)
    log = stored(made)
    positions = made.positions(bases(made))
    assert len(positions) == len(expected)
    for position, (value, partition, stamp) in zip(positions, expected, strict=True):
        assert position.offset is not None
        record = log[position.partition, position.offset]
        assert record.value_bytes == value
        assert partition in (None, position.partition)
        if stamp is not None:
            assert record.timestamp == stamp
        else:
            assert record.timestamp > 1_600_000_000_000
