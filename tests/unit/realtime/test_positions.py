"""Position tokens: short, exact, and nothing else is taken for one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.errors import ProtocolError
from realtime.positions import Position, decode, encode, encode_one

OFFSETS = st.integers(0, 2**63 - 1)


@given(OFFSETS, st.lists(OFFSETS, min_size=1, max_size=60))
def test_a_position_of_all_partitions_comes_back(topic: int, offsets: list[int]) -> None:
    token = encode(topic, offsets)
    assert decode(token) == Position(topic, tuple(offsets), None)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(OFFSETS, st.integers(0, 999), OFFSETS)
def test_a_position_of_one_partition_comes_back(topic: int, partition: int, offset: int) -> None:
    assert decode(encode_one(topic, partition, offset)) == Position(topic, (offset,), partition)


@pytest.mark.parametrize(("partitions", "most"), [(1, 14), (6, 44), (100, 512)])
def test_a_token_of_skewed_partitions_stays_short(partitions: int, most: int) -> None:
    offsets = [10**9 // (1 + n % 10) for n in range(partitions)]
    assert len(encode(1234, offsets)) <= most


def test_a_token_of_a_thousand_partitions_is_still_read() -> None:
    offsets = (0, *[2**63 - 1] * 999)
    assert decode(encode(2**63 - 1, offsets)).offsets == offsets


@given(st.text(max_size=30) | st.text("ABCDEFabc012-_", max_size=30))
def test_any_other_text_is_refused_or_is_exactly_what_it_says(text: str) -> None:
    with contextlib.suppress(ProtocolError):
        found = decode(text)
        again = (
            encode(found.topic_id, found.offsets)
            if found.partition is None
            else encode_one(found.topic_id, found.partition, found.offsets[0])
        )
        assert again == text


@pytest.mark.parametrize(
    "text",
    ["", "=", "A", "AA", "AAAA", "A" * 11_001, encode(1, [2]) + "=", " " + encode(1, [2]), encode(1, [2]) + "A", "ü"],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="not a position"):
        decode(text)
