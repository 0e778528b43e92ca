"""One step each of what the measurements repeat through the product: append, publish, read in order.

A step returns how many records it handled. `append`, `fetch`, `transactional`, `growth` and `kafka` share
them, so that the same work stands behind the same words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from bench.workload import pairs
from brokers import codec, publish_many, record_input, topic_log, topics
from brokers.codec import EncodedBatch
from brokers.errors import TopicExists
from brokers.record import RAW, NewRecord
from brokers.topics import TopicInfo

READ_BYTES = 8 * 1024 * 1024


def now_ms() -> int:
    """The time in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def new_topic(name: str, partitions: int = 1) -> TopicInfo:
    """Creates a topic, or takes the one that is there, and says what appending to it needs."""
    with suppress(TopicExists):
        topics.create(name, partitions=partitions)
    return topics.lookup(name)


def new_records(count: int, encoding: int = RAW) -> list[NewRecord]:
    """`count` records ready for the log, values as bytes unless `encoding` says JSON."""
    return [NewRecord(key, value, encoding, None, None, None) for key, value in pairs(count)]


def _encode(records: Sequence[NewRecord]) -> EncodedBatch:
    return codec.encode(record_input.outgoing(records).rows, now_ms(), stamped=False)


def encoded(count: int, encoding: int = RAW) -> EncodedBatch:
    """`count` records as one batch."""
    return _encode(new_records(count, encoding))


def publishing(topic: str, records: Sequence[Any]) -> Callable[[], int]:
    """A step that publishes `records` in one call."""
    count = len(records)

    def step() -> int:
        publish_many(topic, records)
        return count

    return step


def appending(info: TopicInfo, records: Sequence[NewRecord]) -> Callable[[], int]:
    """A step that encodes `records` and appends them to partition 0 as one batch."""
    count = len(records)

    def step() -> int:
        topic_log.append(info, [(0, _encode(records))])
        return count

    return step


def staging(info: TopicInfo, records: Sequence[NewRecord]) -> Callable[[], int]:
    """A step that encodes `records` and stages them in the caller's transaction, for partition 0."""
    count = len(records)

    def step() -> int:
        topic_log.stage(info, [(0, _encode(records))])
        return count

    return step


def appending_encoded(info: TopicInfo, batch: EncodedBatch) -> Callable[[], int]:
    """A step that appends one encoded batch to partition 0."""

    def step() -> int:
        topic_log.append(info, [(0, batch)])
        return batch.record_count

    return step


def reading(info: TopicInfo, limit: int, first: int, past: int, *, text_keys: bool = True) -> Callable[[], int]:
    """A step that reads the next `limit` records and touches keys and offsets, round and round."""
    offset = first

    def step() -> int:
        nonlocal offset
        read = topic_log.read(info, 0, offset, limit, READ_BYTES)
        if text_keys:
            for record in read.records:
                record.key  # noqa: B018 - decoding the key is part of reading it
                record.offset  # noqa: B018
        else:
            for record in read.records:
                record.key_bytes  # noqa: B018
                record.offset  # noqa: B018
        offset = read.next_offset
        if offset >= past or not read.records:
            offset = first
        return len(read.records)

    return step


def fill(info: TopicInfo, count: int, batch_size: int, *, encoding: int = RAW) -> None:
    """Appends about `count` records to partition 0 in batches of `batch_size`, values as bytes or as JSON."""
    batch = encoded(batch_size, encoding)
    for _ in range(max(1, count // batch_size)):
        topic_log.append(info, [(0, batch)])
