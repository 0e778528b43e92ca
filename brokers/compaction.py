"""Compaction: keeps the last record of each key in topics with `cleanup_policy` "compact".

Batches are rewritten in place; offsets never change and order is kept, so gaps appear. A tombstone (null value) stays
for a day after it was stored, so that every consumer sees it, and then goes too. The last batch of a run stays even
when empty, because the newest one's end is where the next offset comes from. Runs when at least half of a partition's
bytes came since the last time, as by Kafka's default; called by housekeeping. Source: Kafka's design documentation,
log compaction.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg
from django.db import transaction

from brokers import codec
from brokers.database import sync_cursor
from brokers.record import Record
from brokers.sql import load

SQL = load("housekeeping")
log = logging.getLogger("waystation.compaction")

DIRTY_RATIO = 0.5
TOMBSTONE_MS = 86_400_000
MAX_KEYS = 500_000
"""Keys remembered in one run, some 70 MB; a run over more stops earlier and the next one goes on."""
BATCHES_AT_ONCE = 50
"""Batches read and rewritten in one transaction at most."""
BYTES_AT_ONCE = 8 * 1024 * 1024
"""Bytes read in one transaction at most, beyond the first batch."""
NO_TIME = -1
"""`last_ts` of a batch without records: at or after no timestamp."""

Cursor = psycopg.Cursor[tuple[Any, ...]]
KeepGoing = Callable[[], bool]


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Dirty:
    """A partition to compact: what lies below `cleaned` was seen before, and nothing from `end` on is touched."""

    id: int
    topic: str
    number: int
    earliest: int
    cleaned: int
    end: int


@dataclass(slots=True)
class _Tally:
    """What a run has done so far."""

    removed: int = 0
    """Records."""
    left: int = 0
    """Bytes of the batches gone through."""


def dirty_partitions(dirty_ratio: float = DIRTY_RATIO) -> list[Dirty]:
    """Partitions of compacted topics whose share of new bytes is at least `dirty_ratio`, a bounded number."""
    with sync_cursor() as cursor:
        return [Dirty(*row) for row in cursor.execute(SQL.compactable, (dirty_ratio,)).fetchall()]


def compact(keep_going: KeepGoing = _always, dirty_ratio: float = DIRTY_RATIO) -> int:
    """Compacts each partition that has become dirty enough; says how many records went.

    A run that `keep_going` ends early is begun anew by the next one.
    """
    removed = 0
    for partition in dirty_partitions(dirty_ratio):
        try:
            removed += compact_partition(partition, keep_going)
        except (msgspec.DecodeError, ValueError) as error:
            place = f"{partition.topic}/{partition.number}"
            log.error("a batch cannot be decoded", extra={"partition": place, "error": str(error)})
    return removed


def compact_partition(partition: Dirty, keep_going: KeepGoing = _always) -> int:
    """Compacts one partition; says how many records went. Transactions of its own, each of a few batches."""
    last, end = _last_offsets(partition, keep_going)
    tally = _Tally()
    offset = partition.earliest
    while offset < end:
        if not keep_going():
            return tally.removed
        offset = _step(partition, offset, end, last, tally)
    with sync_cursor() as cursor:
        cursor.execute(SQL.cleaned, (end, tally.left, partition.id))
    return tally.removed


def _step(partition: Dirty, offset: int, end: int, last: dict[bytes, int], tally: _Tally) -> int:
    """Rewrites the next few batches in one transaction; answers the offset at which to go on."""
    with transaction.atomic(), sync_cursor() as cursor:
        if cursor.execute(SQL.lock_count, (partition.id,)).fetchone() is None:  # the topic was deleted
            return end
        row = cursor.execute(SQL.earliest, (partition.id,)).fetchone()
        earliest, now = row or (end, 0)
        rows = _batches(cursor, partition, max(offset, earliest), end)
        freed = sum(_compact_batch(cursor, partition, row, last, now, tally) for row in rows)
        if freed:
            cursor.execute(SQL.free, (freed, partition.id))
    return rows[-1][0] + rows[-1][1] if rows else end


def _batches(cursor: Cursor, partition: Dirty, start: int, end: int) -> list[tuple[Any, ...]]:
    limits = (BATCHES_AT_ONCE, BYTES_AT_ONCE)
    return cursor.execute(SQL.batches, (partition.id, start, end, *limits), binary=True).fetchall()


def _key(record: Record) -> bytes:
    """A key as it is remembered: long ones by their digest."""
    key = record.key_bytes or b""
    return key if len(key) < 32 else hashlib.blake2b(key, digest_size=32).digest()


def _last_offsets(partition: Dirty, keep_going: KeepGoing) -> tuple[dict[bytes, int], int]:
    """The last offset of each key in the new part, and how far that part was read."""
    last: dict[bytes, int] = {}
    offset = partition.cleaned
    for row in _read(partition):
        for record in _decode(partition, row):
            last[_key(record)] = record.offset
        offset = row[0] + row[1]
        if len(last) >= MAX_KEYS or not keep_going():
            break
    return last, offset


def _read(partition: Dirty) -> Iterator[tuple[Any, ...]]:
    start = partition.cleaned
    while True:
        with sync_cursor() as cursor:
            rows = _batches(cursor, partition, start, partition.end)
        if not rows:
            return
        yield from rows
        start = rows[-1][0] + rows[-1][1]


def _decode(partition: Dirty, row: tuple[Any, ...]) -> list[Record]:
    base, _, base_ts, kind, payload, _ = row
    return codec.decode(partition.topic, partition.number, base, base_ts, kind, payload)


def _compact_batch(
    cursor: Cursor, partition: Dirty, row: tuple[Any, ...], last: dict[bytes, int], now: int, tally: _Tally
) -> int:
    """Rewrites one batch if something goes; answers how many bytes went."""
    base, span, _, _, payload, stored_at = row
    records = _decode(partition, row)
    keeps_tombstones = stored_at >= now - TOMBSTONE_MS
    kept = [
        record
        for record in records
        if last.get(_key(record), -1) <= record.offset and (record.value_bytes is not None or keeps_tombstones)
    ]
    tally.removed += len(records) - len(kept)
    if not kept and base + span < partition.end:
        cursor.execute(SQL.remove_batch, (partition.id, base))
        return len(payload)
    if len(kept) == len(records):
        tally.left += len(payload)
        return 0
    base_ts = min((record.timestamp for record in kept), default=0)
    last_ts = max((record.timestamp for record in kept), default=NO_TIME)
    smaller = codec.encode_sparse(kept, base, base_ts)
    cursor.execute(SQL.rewrite, (codec.SPARSE, base_ts, last_ts, smaller, partition.id, base))
    tally.left += len(smaller)
    return len(payload) - len(smaller)
