"""How a batch of records becomes the bytes of one log row, and back.

Codec 1 (dense) is the msgpack of a list of records, one offset each. Codec 2 (sparse) is what compaction leaves: the
offsets' distances from the batch's base, then the records. Timestamps are stored as milliseconds after the row's
`base_ts`. Pure: called by `topic_log`, `compaction` and the benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from brokers.record import Record

DENSE = 1
SPARSE = 2

_encode = msgspec.msgpack.Encoder().encode
_decode_dense = msgspec.msgpack.Decoder(list[Record]).decode
_decode_sparse = msgspec.msgpack.Decoder(tuple[list[int], list[Record]]).decode

Row = tuple[int | None, bytes | None, bytes | None, int, Mapping[str, str]]
"""A record about to be stored: timestamp, key, value, encoding, headers."""


class EncodedBatch(NamedTuple):
    """What one row of the log holds beside its offsets. Timestamps are Unix milliseconds."""

    record_count: int
    base_ts: int
    last_ts: int
    codec: int
    payload: bytes


def encode(rows: Sequence[Row], now: int, stamped: bool) -> EncodedBatch:
    """A dense batch of `rows` in their order; `now` (Unix ms) is the timestamp of those without one.

    Rows hold timestamps of their own only when `stamped`; else each one's is 0.
    """
    if not stamped:
        return EncodedBatch(len(rows), now, now, DENSE, _encode(rows))
    stamps = [now if row[0] is None else row[0] for row in rows]
    base = min(stamps)
    moved = [(stamp - base, *row[1:]) for stamp, row in zip(stamps, rows, strict=True)]
    return EncodedBatch(len(rows), base, max(stamps), DENSE, _encode(moved))


def encode_sparse(records: Sequence[Record], base_offset: int, base_ts: int) -> bytes:
    """The payload of a compacted batch: `records` keep their offsets and timestamps.

    Their timestamps must be absolute (as `decode` returns them) and `base_ts` the batch's.
    """
    deltas = [record.offset - base_offset for record in records]
    rows = [(r.timestamp - base_ts, r.key_bytes, r.value_bytes, r.encoding, r.headers) for r in records]
    return _encode((deltas, rows))


def decode(topic: str, partition: int, base_offset: int, base_ts: int, codec: int, payload: bytes) -> list[Record]:
    """The records of one row, complete with topic, partition, offset and absolute timestamp.

    Raises msgspec.DecodeError when the payload is damaged and ValueError for an unknown codec.
    """
    if codec == DENSE:
        records = _decode_dense(payload)
        offset = base_offset
        for record in records:
            record.offset = offset
            record.partition = partition
            record.topic = topic
            record.timestamp += base_ts
            offset += 1
        return records
    if codec == SPARSE:
        deltas, records = _decode_sparse(payload)
        for delta, record in zip(deltas, records, strict=True):
            record.offset = base_offset + delta
            record.partition = partition
            record.topic = topic
            record.timestamp += base_ts
        return records
    raise ValueError(f"the batch at offset {base_offset} of {topic}/{partition} has the unknown codec {codec}")
