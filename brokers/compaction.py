"""Compaction: keeps the last record of each key in topics with `cleanup_policy` "compact".

Batches are rewritten in place; offsets never change and order is kept, so gaps appear. A tombstone (null value) stays
for a day after it was stored, so that every consumer sees it, and then goes too. The newest batch of a partition stays
even when empty, because its end is where the next offset comes from. Runs when at least half of a partition is new
since the last time, as by Kafka's default; called by
housekeeping. Source: Kafka's design documentation, log compaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import transaction

from brokers import codec
from brokers.database import sync_cursor
from brokers.record import Record
from brokers.sql import load

SQL = load("housekeeping")

DIRTY_RATIO = 0.5
TOMBSTONE_MS = 86_400_000
MAX_KEYS = 500_000
"""Keys remembered in one run, some 70 MB; a run over more stops earlier and the next one goes on."""
_BATCHES = 50
"""Batches read and rewritten in one transaction."""

Cursor = psycopg.Cursor[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Dirty:
    """A partition to compact: what lies below `cleaned` was seen before."""

    id: int
    topic: str
    number: int
    earliest: int
    cleaned: int
    latest: int


def compact(dirty_ratio: float = DIRTY_RATIO) -> int:
    """Compacts each partition that has become dirty enough; says how many records went."""
    with sync_cursor() as cursor:
        dirty = [Dirty(*row) for row in cursor.execute(SQL.compactable, (dirty_ratio,)).fetchall()]
    return sum(compact_partition(partition) for partition in dirty)


def compact_partition(partition: Dirty) -> int:
    """Compacts one partition; says how many records went. Transactions of its own, each of a few batches."""
    last, end = _last_offsets(partition)
    removed = freed = 0
    offset = partition.earliest
    while offset < end:
        with transaction.atomic(), sync_cursor() as cursor:
            rows = cursor.execute(SQL.batches, (partition.id, offset, end, _BATCHES), binary=True).fetchall()
            if not rows:
                break
            for row in rows:
                went, less = _compact_batch(cursor, partition, row, last)
                removed, freed = removed + went, freed + less
            offset = rows[-1][0] + rows[-1][1]
    with sync_cursor() as cursor:
        cursor.execute(SQL.cleaned, {"partition": partition.id, "offset": end, "freed": freed})
    return removed


def _key(record: Record) -> bytes:
    """A key as it is remembered: long ones by their digest."""
    key = record.key_bytes or b""
    return key if len(key) <= 32 else hashlib.blake2b(key, digest_size=32).digest()


def _last_offsets(partition: Dirty) -> tuple[dict[bytes, int], int]:
    """The last offset of each key in the new part, and how far that part was read."""
    last: dict[bytes, int] = {}
    offset = partition.cleaned
    for row in _read(partition, partition.cleaned, partition.latest):
        for record in _decode(partition, row):
            last[_key(record)] = record.offset
        offset = row[0] + row[1]
        if len(last) >= MAX_KEYS:
            break
    return last, offset


def _read(partition: Dirty, start: int, end: int) -> Iterator[tuple[Any, ...]]:
    while True:
        with sync_cursor() as cursor:
            rows = cursor.execute(SQL.batches, (partition.id, start, end, _BATCHES), binary=True).fetchall()
        if not rows:
            return
        yield from rows
        start = rows[-1][0] + rows[-1][1]


def _decode(partition: Dirty, row: tuple[Any, ...]) -> list[Record]:
    base, _, base_ts, kind, payload, _ = row
    return codec.decode(partition.topic, partition.number, base, base_ts, kind, payload)


def _compact_batch(cursor: Cursor, partition: Dirty, row: tuple[Any, ...], last: dict[bytes, int]) -> tuple[int, int]:
    """Rewrites one batch if something goes; answers how many records and bytes went."""
    base, span, _, _, payload, stored_at = row
    records = _decode(partition, row)
    now = _now(cursor) if any(record.value_bytes is None for record in records) else 0
    kept = [
        record
        for record in records
        if last.get(_key(record), -1) <= record.offset
        and (record.value_bytes is not None or stored_at >= now - TOMBSTONE_MS)
    ]
    if len(kept) == len(records):
        return 0, 0
    if not kept and base + span < partition.latest:
        cursor.execute(SQL.remove_batch, (partition.id, base))
        return len(records), len(payload)
    base_ts = min((record.timestamp for record in kept), default=0)
    last_ts = max((record.timestamp for record in kept), default=0)
    smaller = codec.encode_sparse(kept, base, base_ts)
    cursor.execute(SQL.rewrite, (codec.SPARSE, base_ts, last_ts, smaller, partition.id, base))
    return len(records) - len(kept), len(payload) - len(smaller)


def _now(cursor: Cursor) -> int:
    row = cursor.execute("select (extract(epoch from clock_timestamp()) * 1000)::bigint").fetchone()
    assert row is not None
    return int(row[0])
