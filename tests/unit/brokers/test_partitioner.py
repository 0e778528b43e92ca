"""Where records go: the vectors of librdkafka and Kafka, users' functions, records without a key."""

from __future__ import annotations

import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers import partitioner
from brokers.errors import InvalidValue
from brokers.partitioner import (
    UnkeyedSpread,
    checked,
    crc32_partition,
    murmur2,
    murmur2_partition,
    named,
    register,
)

counts = st.integers(1, 5000)


@pytest.mark.parametrize(
    ("key", "signed", "positive", "of_3", "of_12"),
    [
        (b"21", -973932308, 1173551340, 0, 0),
        (b"foobar", -790332482, 1357151166, 0, 6),
        (b"a-little-bit-long-string", -985981536, 1161502112, 2, 8),
        (b"a-little-bit-longer-string", -1486304829, 661178819, 2, 11),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971, 2088585677, 2, 5),
        (b"abc", 479470107, 479470107, 0, 3),
    ],
)
def test_murmur2_as_in_kafka(key: bytes, signed: int, positive: int, of_3: int, of_12: int) -> None:
    assert murmur2(key) == signed
    assert murmur2(key) & 0x7FFFFFFF == positive
    assert murmur2_partition(key, 3) == of_3
    assert murmur2_partition(key, 12) == of_12


@pytest.mark.parametrize(
    ("key", "crc32", "hashed", "crc32_of_17", "murmur2_of_17"),
    [
        (b"", 0x0, 0x106E08D9, 0, 11),
        (b"23456", 0xB1B451D7, 0x058D780F, 7, 9),
        (b"this is another string with more length to it perhaps", 0xB0150DF7, 0x4F7703DA, 15, 11),
        (b"hejsan", 0xD077037E, 0x5EC19395, 14, 5),
    ],
)
def test_both_as_in_librdkafka(key: bytes, crc32: int, hashed: int, crc32_of_17: int, murmur2_of_17: int) -> None:
    assert zlib.crc32(key) == crc32
    assert murmur2(key) & 0x7FFFFFFF == hashed
    assert named("crc32")(key, 17) == crc32_of_17
    assert named("murmur2")(key, 17) == murmur2_of_17


def java_murmur2(data: bytes) -> int:
    """Kafka's Utils.murmur2, byte by byte."""
    h = (0x9747B28C ^ len(data)) & 0xFFFFFFFF
    for i in range(len(data) // 4):
        k = sum(data[4 * i + j] << 8 * j for j in range(4))
        k = k * 0x5BD1E995 % 2**32
        k ^= k >> 24
        k = k * 0x5BD1E995 % 2**32
        h = h * 0x5BD1E995 % 2**32 ^ k
    rest = len(data) % 4
    start = len(data) - rest
    if rest == 3:
        h ^= data[start + 2] << 16
    if rest >= 2:
        h ^= data[start + 1] << 8
    if rest >= 1:
        h ^= data[start]
        h = h * 0x5BD1E995 % 2**32
    h ^= h >> 13
    h = h * 0x5BD1E995 % 2**32
    h ^= h >> 15
    return h if h < 2**31 else h - 2**32


@given(st.binary(max_size=300))
def test_murmur2_equals_a_plain_transcription(key: bytes) -> None:
    assert murmur2(key) == java_murmur2(key)


@given(st.binary(), counts, st.sampled_from([crc32_partition, murmur2_partition]))
def test_a_key_has_one_partition_in_range(key: bytes, count: int, place: partitioner.Partitioner) -> None:
    assert 0 <= place(key, count) < count
    assert place(key, count) == place(bytes(bytearray(key)), count)


def test_an_unknown_partitioner_is_named_in_the_refusal() -> None:
    with pytest.raises(InvalidValue, match=r"'sha1'.*crc32, murmur2") as refused:
        named("sha1")
    assert refused.value.errors[0][0] == "/partitioner"


def by_length(key: bytes, count: int) -> int:
    return len(key) % count


def test_a_registered_function_is_found_by_its_name() -> None:
    name = f"{by_length.__module__}.{by_length.__qualname__}"
    register(name, by_length)
    assert named(name)(b"four", 3) == 1


@pytest.mark.parametrize("name", ["crc32", "murmur2"])
def test_the_built_in_ones_cannot_be_replaced(name: str) -> None:
    with pytest.raises(InvalidValue, match="built in"):
        register(name, by_length)
    assert named(name)(b"hejsan", 17) in (14, 5)


@pytest.mark.parametrize("answer", [-1, 3, 2**40, 1.0, "1", None, True])
def test_a_function_that_answers_out_of_range_is_refused_by_its_answer(answer: Any) -> None:
    def misplace(key: bytes, count: int) -> int:
        return answer  # type: ignore[no-any-return]

    with pytest.raises(InvalidValue) as refused:
        checked(misplace)(b"N14228", 3)
    assert "misplace" in refused.value.detail
    assert ascii(answer) in refused.value.detail
    assert "0 to 2" in refused.value.detail


def test_what_a_function_raises_itself_passes_through() -> None:
    def broken(key: bytes, count: int) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        checked(broken)(b"k", 3)


@given(counts, st.integers(1, 3000))
def test_records_without_a_key_are_spread_evenly(count: int, records: int) -> None:
    spread = UnkeyedSpread()
    landed = Counter(spread.next_partition("t", count) for _ in range(records))
    assert set(landed) <= set(range(count))
    assert max(landed.values()) - min(landed[p] for p in range(count)) <= 1


def test_topics_written_to_alternately_starve_no_partition() -> None:
    spread = UnkeyedSpread()
    landed = Counter((topic, spread.next_partition(topic, 2)) for _ in range(10) for topic in ("a", "b"))
    assert set(landed.values()) == {5}
    assert len(landed) == 4


def test_processes_do_not_all_begin_at_the_same_partition() -> None:
    assert len({UnkeyedSpread().next_partition("t", 1 << 16) for _ in range(20)}) > 1


def test_threads_share_one_turn() -> None:
    spread = UnkeyedSpread()
    with ThreadPoolExecutor(8) as pool:
        landed = Counter(pool.map(lambda _: spread.next_partition("t", 4), range(4000)))
    assert landed == {0: 1000, 1: 1000, 2: 1000, 3: 1000}


def test_a_forgotten_topic_begins_anew() -> None:
    spread = UnkeyedSpread()
    spread.forget("never seen")
    spread.next_partition("t", 3)
    spread.forget("t")
    assert 0 <= spread.next_partition("t", 3) < 3
