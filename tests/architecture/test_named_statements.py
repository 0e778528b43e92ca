"""Every named statement fits the migrated schema, is used by its module, and never scans the log.

Scans are counted by PostgreSQL itself, for statements and for what the stored functions run inside, so often that its
generic plans come into play.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from django.db import connection

from brokers.database import conninfo
from brokers.sql import load

FOLDER = Path(__file__).resolve().parents[2] / "brokers" / "sql"
NOUNS = sorted(path.stem for path in FOLDER.glob("*.sql"))
STATEMENTS = [(noun, name, text) for noun in NOUNS for name, text in vars(load(noun)).items()]
PLACEHOLDER = re.compile(r"%(?:\((\w+)\))?[sbt]")

every_statement = pytest.mark.parametrize(
    ("noun", "name", "text"), STATEMENTS, ids=[f"{noun}.{name}" for noun, name, _ in STATEMENTS]
)


def numbered(text: str) -> str:
    """A statement, or an expression that is part of one, with PostgreSQL's own placeholders."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        name = found[1] or f"#{len(names)}"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    whole = text if re.match(r"(select|with|insert|update|delete)\b", text) else f"select {text}"
    return PLACEHOLDER.sub(number, whole).replace("%%", "%")


@pytest.mark.django_db
@every_statement
def test_it_fits_the_schema(noun: str, name: str, text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"prepare fits as {numbered(text)}".replace("%", "%%"))
        cursor.execute("deallocate fits")


@every_statement
def test_each_of_its_parameters_says_its_type(noun: str, name: str, text: str) -> None:
    """The driver sends a small number as a small type, in which sums overflow."""
    bare = [found[0] for found in re.finditer(r"%(?:\(\w+\))?[sbt](?!::)", text)]
    assert not bare


@every_statement
def test_it_is_used(noun: str, name: str, text: str) -> None:
    sources = [path.read_text() for path in FOLDER.parent.rglob("*.py")]
    assert any(re.search(rf"\bSQL\.{name}\b", source) for source in sources)


@pytest.fixture(params=[(2, 60_000, 300), (400, 300, 40)], ids=["long partitions", "many partitions"])
def log(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """A transaction in which the log holds 120,000 batches, interleaved as appends leave them; rolled back."""
    partitions, batches, size = request.param
    with psycopg.connect(conninfo()) as conn:
        conn.execute(
            "insert into brokers_topic"
            " (name, partitioner, retention_ms, retention_bytes, max_record_bytes, cleanup_policy)"
            " select p, 'crc32', 1000, 1000, 1000000, p from unnest(array['delete', 'compact']) p"
        )
        conn.execute(
            "insert into brokers_partition (topic_id, number, earliest_offset)"
            " select id, n, case when n = 0 then 100 else 0 end from brokers_topic, generate_series(0, %s) n",
            [partitions // 2 - 1],
        )
        conn.execute(
            "insert into brokers_log_batch select p.id, b * 10, 10, b, b, b, b, 1, decode(repeat('78', %s), 'hex')"
            " from generate_series(0, %s) b, brokers_partition p",
            [size, batches - 1],
        )
        conn.execute(
            "insert into brokers_partition_count (partition_id, counted_offset, counted_bytes)"
            " select id, %s, %s from brokers_partition",
            [batches * 10 - 100, batches * size],
        )
        conn.execute("insert into brokers_deleted_partition select max(id) from brokers_partition")
        conn.execute("analyze")
        yield conn
        conn.rollback()


def scans(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute(
        "select seq_scan from pg_stat_xact_user_tables where relid = 'brokers_log_batch'::regclass"
    ).fetchone()
    return int(row[0]) if row else 0


def test_none_scans_the_log(log: psycopg.Connection[Any]) -> None:
    topic_log, groups, housekeeping, reads = map(load, ("topic_log", "groups", "housekeeping", "topic_reads"))
    rows = log.execute("select id, topic_id from brokers_partition order by id").fetchall()
    (first, topic), last = rows[0], rows[-1][0]
    row = log.execute("select max(base_offset) from brokers_log_batch").fetchone()
    assert row is not None
    end = row[0]
    batch = (1, 5, 5, 1, b"x")
    flush = "set constraints brokers_log_flush"
    half = {"partition": first, "batches": 50}
    calls: dict[str, list[tuple[LiteralString, Any]]] = {
        "append": [(topic_log.append, (last, *batch))],
        "append_many": [(topic_log.append_many, [[first, last], [1, 1], [5, 5], [5, 5], [1, 1], [b"x", b"x"]])],
        "stage": [
            (topic_log.stage, (last, *batch)),
            (f"{flush} immediate", ()),
            (f"{flush} deferred", ()),
        ],
        "fetch": [(topic_log.fetch, (last, end * n // 12, 100, 2**20)) for n in range(12)],
        "fetch at the end": [(topic_log.fetch, (last, end + 10, 1000, 2**23))],
        "bounds": [(topic_log.bounds, (last,))],
        "bounds_of_topic": [(topic_log.bounds_of_topic, (topic,))],
        "at_timestamp": [(topic_log.at_timestamp, (last, end * n // 130)) for n in range(13)],
        "fetch of a group": [(groups.fetch, ([first, last], [end // 2, end // 3], 500, 2**20))],
        "page of topics": [(reads.page, ("", "%", 100))],
        "behind": [(housekeeping.behind, ())],
        "count": [(housekeeping.count, {"partitions": [first, last], "offsets": [end - 90] * 2, "batches": 1000})],
        "expired": [(housekeeping.expired, ())],
        "oldest": [(housekeeping.oldest, (first, 100, end, 2000))],
        "raise_earliest": [(housekeeping.raise_earliest, {"partition": first, "earliest": 100, "offset": 200})],
        "half_removed": [(housekeeping.half_removed, ())],
        "remove_below_earliest": [(housekeeping.remove_below_earliest, half)],
        "remove_deleted": [(housekeeping.remove_deleted, half | {"partition": last})],
        "compactable": [(housekeeping.compactable, (0.5,))],
        "batches": [(housekeeping.batches, (first, end // 2, end, 50, 2**23))],
        "rewrite": [(housekeeping.rewrite, (2, 1, 1, b"y", first, end))],
        "remove_batch": [(housekeeping.remove_batch, (first, end - 10))],
    }
    guilty = set()
    for name, statements in calls.items():
        before = scans(log)
        for _ in range(12 // len(statements) + 1):
            for statement, parameters in statements:
                log.execute(statement, parameters, prepare=True)
        if scans(log) != before:
            guilty.add(name)
    assert not guilty
