"""The topic log: its only writer and its only reader.

Appends encoded batches (at once, or staged within a caller's transaction) and reads records back by offset or by
time. The statements are in `sql/topic_log.sql`, the stored functions in migration 0002. Knows nothing of keys'
places, limits or permissions: `publish` does. Each operation has a synchronous form on Django's connection and an
asynchronous one (`a...`) on the pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import django.db
import psycopg

from brokers import codec
from brokers.codec import EncodedBatch
from brokers.database import acquire, sqlstate, sync_cursor
from brokers.errors import OffsetOutOfRange, Unavailable
from brokers.record import Record
from brokers.settings import DEFAULT_FETCH_BYTES
from brokers.sql import load
from brokers.topics import TopicInfo, alookup, gone, lookup

SQL = load("topic_log")

_NO_DATA_FOUND = "P0002"
_CALLS = 16
"""Batches appended by as many calls in one SELECT, evaluated in order; arrays take the driver longer to write."""
_APPENDS = ["", *(f"{SQL.append}{f', {SQL.append_call}' * more}" for more in range(_CALLS))]
_SEARCHES = 3
"""Searches for a timestamp before giving up on a partition whose records vanish meanwhile."""
Row = tuple[int, int, int, int, bytes]


class Bounds(NamedTuple):
    """A partition's earliest offset, and `latest`: the offset that its next record gets."""

    earliest: int
    latest: int


class PartitionBounds(NamedTuple):
    """One partition of a topic with its bounds and the bytes of its stored batches."""

    partition: int
    earliest_offset: int
    latest_offset: int
    bytes: int


class Read(NamedTuple):
    """Records in order of offset, and the offset at which to go on."""

    records: list[Record]
    next_offset: int


class Fetched(NamedTuple):
    """As `Read`, with the partition's bounds."""

    records: list[Record]
    next_offset: int
    earliest_offset: int
    latest_offset: int


class Page(NamedTuple):
    """What a partition holds from some offset on: from `start`, which is later where retention has cut in."""

    records: list[Record]
    start: int
    next_offset: int
    latest_offset: int


class PartitionEnds(NamedTuple):
    """One partition of a topic: its row and its bounds."""

    partition_id: int
    earliest_offset: int
    latest_offset: int


# -- append -----------------------------------------------------------------------------------------------------


def append(info: TopicInfo, batches: Sequence[tuple[int, EncodedBatch]]) -> list[int]:
    """Appends batches in ascending order of their partitions, all or nothing, and says their base offsets.

    They are durable when it returns, unless the connection is inside a transaction: then they hold their partitions'
    locks until its end, which is why `publish` stages there instead. Raises `TopicNotFound` and `Unavailable`.
    """
    try:
        with sync_cursor() as cursor:
            row = cursor.execute(*_append_call(info, batches)).fetchone()
    except django.db.DatabaseError as error:
        if sqlstate(error) == _NO_DATA_FOUND:
            raise gone(error, info) from error
        raise
    assert row is not None
    return list(row) if len(batches) <= _CALLS else list(row[0])


async def aappend(info: TopicInfo, batches: Sequence[tuple[int, EncodedBatch]]) -> list[int]:
    """`append` on a connection of the pool; durable when it returns."""
    async with acquire() as conn:
        return await aappend_on(conn, info, batches)


async def aappend_on(
    conn: psycopg.AsyncConnection[tuple[Any, ...]],
    info: TopicInfo,
    batches: Sequence[tuple[int, EncodedBatch]],
) -> list[int]:
    """`append` on the given connection, as part of its transaction if it has one."""
    try:
        row = await (await conn.execute(*_append_call(info, batches))).fetchone()
    except psycopg.errors.NoDataFound as error:
        raise gone(error, info) from error
    assert row is not None
    return list(row) if len(batches) <= _CALLS else list(row[0])


def stage(info: TopicInfo, batches: Sequence[tuple[int, EncodedBatch]]) -> None:
    """Makes batches part of the caller's transaction: they get their offsets at its commit, and none if it rolls back.

    Requires a transaction at READ COMMITTED. A topic deleted meanwhile lets the commit fail.
    """
    with sync_cursor() as cursor:
        for number, batch in batches:
            cursor.execute(SQL.stage, (info.partition_id(number), *batch))


def _append_call(info: TopicInfo, batches: Sequence[tuple[int, EncodedBatch]]) -> tuple[Any, tuple[Any, ...]]:
    if len(batches) <= _CALLS:
        parameters: list[Any] = []
        for number, batch in batches:
            parameters += (info.partition_id(number), *batch)
        return _APPENDS[len(batches)], tuple(parameters)
    rows = ((info.partition_id(number), *batch) for number, batch in batches)
    return SQL.append_many, tuple(list(column) for column in zip(*rows, strict=True))


# -- fetch ------------------------------------------------------------------------------------------------------


def read(info: TopicInfo, partition: int, offset: int, limit: int = 100, max_bytes: int = DEFAULT_FETCH_BYTES) -> Read:
    """Up to `limit` records of one partition from `offset` on, none when there are none yet.

    `max_bytes` limits the stored bytes read, but at least one batch is. Raises `OffsetOutOfRange` below the earliest
    offset, `PartitionNotFound`, `TopicNotFound`, `Unavailable`.
    """
    number = info.partition_id(partition)
    with sync_cursor() as cursor:
        while True:
            rows = cursor.execute(SQL.fetch, (number, offset, limit, max_bytes), binary=True).fetchall()
            if not rows or rows[0][0] > offset:
                _check_range(info, partition, offset, cursor.execute(SQL.bounds, (number,)).fetchone())
            found = _decode(info.name, partition, offset, limit, rows)
            if found.records or not rows:
                return found
            offset = found.next_offset  # compaction left nothing there


def fetch(topic: str, partition: int, offset: int, limit: int = 100, max_bytes: int = DEFAULT_FETCH_BYTES) -> Fetched:
    """`read` by the topic's name, with the partition's bounds."""
    info = lookup(topic)
    number = info.partition_id(partition)
    with sync_cursor() as cursor:
        while True:
            asked = (number, offset, limit, max_bytes)
            rows = cursor.execute(SQL.fetch_with_bounds, asked, binary=True).fetchall()
            found, more = _fetched(info, partition, offset, limit, rows)
            if not more:
                return found
            offset = found.next_offset


async def afetch(
    topic: str, partition: int, offset: int, limit: int = 100, max_bytes: int = DEFAULT_FETCH_BYTES
) -> Fetched:
    """`fetch` on the pool."""
    info = await alookup(topic)
    number = info.partition_id(partition)
    async with acquire() as conn:
        while True:
            asked = (number, offset, limit, max_bytes)
            rows = await (await conn.execute(SQL.fetch_with_bounds, asked, binary=True)).fetchall()
            found, more = _fetched(info, partition, offset, limit, rows)
            if not more:
                return found
            offset = found.next_offset


async def afetch_partitions(
    topic: str, wanted: Mapping[int, tuple[int, int]], limit: int, max_bytes: int
) -> dict[int, Page]:
    """Records of several partitions in one snapshot: `wanted` gives each one's row and the offset to begin at.

    Up to `limit` records and about `max_bytes` of each, but at least one batch. A partition that was deleted is
    missing in the answer. An offset below the earliest is no error: the page begins at the earliest then.
    """
    ids, offsets = [row for row, _ in wanted.values()], [offset for _, offset in wanted.values()]
    async with acquire() as conn:
        rows = await (
            await conn.execute(SQL.fetch_partitions, (ids, offsets, limit, max_bytes), binary=True)
        ).fetchall()
    found: dict[int, list[Any]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row)
    pages = {}
    for n, (number, (_, offset)) in enumerate(wanted.items(), 1):
        if n in found:
            _, earliest, latest, *_ = found[n][0]
            start = max(offset, earliest)
            batches = [row[3:] for row in found[n] if row[3] is not None]
            records, end = _decode(topic, number, start, limit, batches)
            pages[number] = Page(records, start, end, latest)
    return pages


def _fetched(info: TopicInfo, partition: int, offset: int, limit: int, rows: list[Any]) -> tuple[Fetched, bool]:
    """What rows of `fetch_with_bounds` hold, and whether to go on because compaction left nothing in them."""
    earliest, latest = _check_range(info, partition, offset, rows[0] if rows else None)
    batches = [row[2:] for row in rows if row[2] is not None]
    found = _decode(info.name, partition, offset, limit, batches)
    return Fetched(*found, earliest, latest), bool(batches) and not found.records


def _check_range(info: TopicInfo, partition: int, offset: int, row: tuple[Any, ...] | None) -> Bounds:
    if row is None:
        raise gone(LookupError(partition), info)
    if offset < row[0]:
        raise OffsetOutOfRange(info.name, partition, offset, row[0], row[1])
    return Bounds(row[0], row[1])


def _decode(topic: str, partition: int, offset: int, limit: int, rows: list[Any]) -> Read:
    records: list[Record] = []
    end = offset
    for base, span, base_ts, kind, payload in rows:
        batch = codec.decode(topic, partition, base, base_ts, kind, payload)
        if base < offset:
            batch = batch[offset - base :] if kind == codec.DENSE else [r for r in batch if r.offset >= offset]
        if records:
            records += batch
        else:
            records = batch
        end = base + span
    if len(records) > limit:
        del records[limit:]
        end = records[-1].offset + 1
    return Read(records, end)


# -- bounds -----------------------------------------------------------------------------------------------------


def bounds(info: TopicInfo, partition: int) -> Bounds:
    """A partition's earliest and latest offset now."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.bounds, (info.partition_id(partition),)).fetchone()
    return _check_range(info, partition, 2**63 - 1, row)


async def abounds(info: TopicInfo, partition: int) -> Bounds:
    """`bounds` on the pool."""
    async with acquire() as conn:
        row = await (await conn.execute(SQL.bounds, (info.partition_id(partition),))).fetchone()
    return _check_range(info, partition, 2**63 - 1, row)


def bounds_of_topic(topic_id: int) -> list[PartitionBounds]:
    """All partitions of a topic in order, with the bytes they hold (the newest may be missing for some seconds)."""
    with sync_cursor() as cursor:
        return [PartitionBounds(*row) for row in cursor.execute(SQL.bounds_of_topic, (topic_id,)).fetchall()]


def ends_of_topic(topic_id: int) -> list[PartitionEnds]:
    """All partitions of a topic in order, in one snapshot; none of one that is gone."""
    with sync_cursor() as cursor:
        return [PartitionEnds(*row[1:]) for row in cursor.execute(SQL.ends_of_topics, ([topic_id],)).fetchall()]


async def aends_of_topics(topic_ids: Sequence[int]) -> dict[int, list[PartitionEnds]]:
    """All partitions of several topics in order, in one snapshot; a topic that is gone is missing."""
    async with acquire() as conn:
        rows = await (await conn.execute(SQL.ends_of_topics, (list(topic_ids),))).fetchall()
    found: dict[int, list[PartitionEnds]] = {}
    for topic_id, *ends in rows:
        found.setdefault(topic_id, []).append(PartitionEnds(*ends))
    return found


def offset_at(info: TopicInfo, partition: int, timestamp: int) -> int:
    """The offset of the first record at or after `timestamp` (Unix ms); the latest offset when there is none."""
    for _ in range(_SEARCHES):
        try:
            with sync_cursor() as cursor:
                row = cursor.execute(SQL.at_timestamp, (info.partition_id(partition), timestamp)).fetchone()
        except django.db.DatabaseError as error:
            if sqlstate(error) == _NO_DATA_FOUND:
                raise gone(error, info) from error
            raise
        if row is None or row[0] is None:
            return bounds(info, partition).latest
        try:
            found = _first_at(read(info, partition, row[0], limit=1_000_000, max_bytes=1).records, timestamp)
        except OffsetOutOfRange:
            continue
        if found is not None:
            return found
    raise _changes_too_fast(info, partition)


async def aoffset_at(info: TopicInfo, partition: int, timestamp: int) -> int:
    """`offset_at` on the pool."""
    for _ in range(_SEARCHES):
        try:
            async with acquire() as conn:
                cursor = await conn.execute(SQL.at_timestamp, (info.partition_id(partition), timestamp))
                row = await cursor.fetchone()
        except psycopg.errors.NoDataFound as error:
            raise gone(error, info) from error
        if row is None or row[0] is None:
            return (await abounds(info, partition)).latest
        try:
            page = await afetch(info.name, partition, row[0], limit=1_000_000, max_bytes=1)
        except OffsetOutOfRange:
            continue
        found = _first_at(page.records, timestamp)
        if found is not None:
            return found
    raise _changes_too_fast(info, partition)


def offset_for_timestamp(topic: str, partition: int, timestamp: int) -> int:
    """`offset_at` by the topic's name."""
    return offset_at(lookup(topic), partition, timestamp)


def _first_at(records: list[Record], timestamp: int) -> int | None:
    """None when retention or compaction cut in between the search and the reading."""
    return next((record.offset for record in records if record.timestamp >= timestamp), None)


def _changes_too_fast(info: TopicInfo, partition: int) -> Unavailable:
    return Unavailable(f"records of {info.name}/{partition} were removed while a timestamp was looked for; try again")
