"""A table for what handlers of the tests write. No constraint keeps an effect from being there twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from brokers.record import Record


class Effects:
    """The table, as the test reads it and its handlers write it."""

    def write(self, record: Record, name: str | None = None) -> None:
        """One row, by the thread's own connection."""
        with connection.cursor() as cursor:
            cursor.execute(
                "insert into test_effect (name, partition, record_offset) values (%s, %s, %s)",
                [str(record.value) if name is None else name, record.partition, record.offset],
            )

    def names(self) -> list[str]:
        """All names, in the order in which they were written."""
        with connection.cursor() as cursor:
            cursor.execute("select name from test_effect order by id")
            return [row[0] for row in cursor.fetchall()]

    def places(self) -> list[tuple[int, int]]:
        """Partition and offset of each."""
        with connection.cursor() as cursor:
            cursor.execute("select partition, record_offset from test_effect order by id")
            return [(row[0], row[1]) for row in cursor.fetchall()]


@contextmanager
def effects_table() -> Iterator[Effects]:
    """The table for the time of the block; needs a test without a transaction of its own."""
    with connection.cursor() as cursor:
        cursor.execute("drop table if exists test_effect")
        cursor.execute("create table test_effect (id bigserial, name text, partition int, record_offset bigint)")
    try:
        yield Effects()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("drop table test_effect")
