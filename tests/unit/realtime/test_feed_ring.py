"""The ring of a feed: what it keeps, within which bounds, and from where on it is complete."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.record import RAW, Record
from realtime import feed_ring
from realtime.feed_ring import Ring


def record(partition: int, offset: int, size: int = 1) -> Record:
    return Record(0, None, b"x" * size, RAW, {}, offset, partition)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=60), st.integers(0, 20))
def test_it_is_complete_from_its_low_offsets_on(steps: list[tuple[int, int]], kept: int) -> None:
    """Offsets have holes, as compaction leaves them."""
    ring, added, offsets = Ring([0, 0, 0]), [], [0, 0, 0]
    for partition, distance in steps:
        offsets[partition] += distance
        added.append(record(partition, offsets[partition]))
        ring.add(added[-1], kept * (feed_ring.OVERHEAD + 1))
    found = list(ring.since(dict(enumerate(ring.low))))
    assert found == [r for r in added if r.offset >= ring.low[r.partition]]
    assert len(ring) <= kept
    assert ring.bytes == len(ring) * (feed_ring.OVERHEAD + 1)


def test_a_record_larger_than_all_of_it_is_not_kept() -> None:
    ring = Ring([0])
    ring.add(record(0, 0))
    ring.add(record(0, 1, feed_ring.MAX_BYTES))
    assert (len(ring), ring.bytes, ring.low) == (0, 0, [2])


def test_the_oldest_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_ring, "MAX_RECORDS", 3)
    ring = Ring([0, 0])
    for offset in range(3):
        ring.add(record(0, offset))
        ring.add(record(1, offset))
    assert ring.low == [2, 1]
    assert [(r.partition, r.offset) for r in ring.since({0: 0, 1: 2})] == [(0, 2), (1, 2)]
