"""The references in plain SQL: one INSERT a batch, and a SELECT of whole payloads, through psycopg.

The bare table is a copy of the log's with its index and storage settings, so that the same bytes take the
same way to the disk; offsets are counted in Python, nothing is locked, checked, encoded or decoded.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from brokers.codec import EncodedBatch

_INSERT = """insert into bench_bare
  (partition_id, base_offset, offset_span, base_ts, last_ts, max_ts, stored_at, codec, payload)
  values (%s::int, %s::bigint, %s::int, %s::bigint, %s::bigint, %s::bigint, %s::bigint,
    %s::smallint, %b::bytea)"""
_SELECT = """select base_offset, payload from brokers_log_batch
  where partition_id = %s::int and base_offset >= %s::bigint order by base_offset limit %s::int"""


def create(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    """Creates the table of the bare INSERT anew."""
    conn.execute("drop table if exists bench_bare")
    conn.execute("create table bench_bare (like brokers_log_batch including all)")


def inserting(conn: psycopg.Connection[tuple[object, ...]], batch: EncodedBatch, partition: int) -> Callable[[], int]:
    """A step that inserts `batch` as one row behind the step before it and commits."""
    count, base_ts, last_ts, codec, payload = batch
    offset = 0

    def step() -> int:
        nonlocal offset
        conn.execute(
            _INSERT,
            (partition, offset, count, base_ts, last_ts, last_ts, last_ts, codec, payload),
            binary=True,
        )
        offset += count
        return count

    return step


def selecting(
    conn: psycopg.Connection[tuple[object, ...]],
    partition_id: int,
    batches: int,
    batch_size: int,
    first: int,
    past: int,
) -> Callable[[], int]:
    """A step that fetches the next `batches` whole batches of the log, round and round in [first, past)."""
    offset = first

    def step() -> int:
        nonlocal offset
        rows = conn.execute(_SELECT, (partition_id, offset, batches), binary=True).fetchall()
        offset += len(rows) * batch_size
        if offset >= past:
            offset = first
        return len(rows) * batch_size

    return step
