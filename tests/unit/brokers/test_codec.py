"""The codec: what goes in comes out, dense and sparse, and damage is noticed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers import codec
from brokers.codec import DENSE, SPARSE, Row
from brokers.record import JSON, RAW, Record

NOW = 1_700_000_000_000
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rows = st.lists(
    st.tuples(
        st.none() | st.integers(0, 253_402_300_799_999),
        st.none() | st.binary(max_size=40),
        st.none() | st.binary(max_size=200),
        st.sampled_from([RAW, JSON]),
        st.dictionaries(texts, texts, max_size=3),
    ),
    min_size=1,
    max_size=30,
)


def shown(records: Sequence[Record]) -> list[tuple[object, ...]]:
    return [
        (r.topic, r.partition, r.offset, r.timestamp, r.key_bytes, r.value_bytes, r.encoding, r.headers)
        for r in records
    ]


@given(rows=rows, base=st.integers(0, 2**62))
def test_a_stamped_batch_comes_back_exactly(rows: list[Row], base: int) -> None:
    batch = codec.encode(rows, NOW, stamped=True)
    found = codec.decode("t", 3, base, batch.base_ts, batch.codec, batch.payload)
    stamps = [NOW if row[0] is None else row[0] for row in rows]
    assert shown(found) == [
        ("t", 3, base + n, stamp, *row[1:]) for n, (stamp, row) in enumerate(zip(stamps, rows, strict=True))
    ]
    assert (batch.record_count, batch.base_ts, batch.last_ts) == (len(rows), min(stamps), max(stamps))


@given(rows=rows)
def test_a_batch_without_timestamps_gets_the_time_of_the_append(rows: list[Row]) -> None:
    plain: list[Row] = [(0, *row[1:]) for row in rows]
    batch = codec.encode(plain, NOW, stamped=False)
    assert (batch.codec, batch.base_ts, batch.last_ts) == (DENSE, NOW, NOW)
    found = codec.decode("t", 0, 0, batch.base_ts, batch.codec, batch.payload)
    assert {record.timestamp for record in found} == {NOW}
    assert [record.value_bytes for record in found] == [row[2] for row in rows]


@given(data=st.data(), rows=rows, base=st.integers(0, 2**62))
def test_what_compaction_leaves_keeps_offsets_and_timestamps(data: st.DataObject, rows: list[Row], base: int) -> None:
    batch = codec.encode(rows, NOW, stamped=True)
    all_of_them = codec.decode("t", 1, base, batch.base_ts, batch.codec, batch.payload)
    chosen = data.draw(st.sets(st.sampled_from(range(len(rows)))))
    kept = [record for n, record in enumerate(all_of_them) if n in chosen]
    base_ts = min((record.timestamp for record in kept), default=0)
    payload = codec.encode_sparse(kept, base, base_ts)
    assert shown(codec.decode("t", 1, base, base_ts, SPARSE, payload)) == shown(kept)


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(ValueError, match="the batch at offset 7 of t/2 has the unknown codec 9"):
        codec.decode("t", 2, 7, 0, 9, b"")


@pytest.mark.parametrize("kind", [DENSE, SPARSE])
@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91", b"\x01", b"\x91\x91\x01"])
def test_a_damaged_payload_raises(kind: int, payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        codec.decode("t", 0, 0, 0, kind, payload)


def test_a_truncated_payload_raises() -> None:
    payload = codec.encode([(0, b"key", b"value", RAW, {})] * 3, NOW, stamped=False).payload
    for length in range(len(payload)):
        with pytest.raises(msgspec.DecodeError):
            codec.decode("t", 0, 0, 0, DENSE, payload[:length])


def test_offsets_that_do_not_match_the_records_raise() -> None:
    payload = msgspec.msgpack.encode(([0, 1], [(0, b"k", b"v", RAW, {})]))
    with pytest.raises(ValueError, match="zip"):
        codec.decode("t", 0, 0, 0, SPARSE, payload)
