"""What tending reads of a big table, whose statistics are those of an empty one: what it takes, and little more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from brokers.database import conninfo
from brokers.queues.planning import BY_INDEX
from brokers.sql import load

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
QUEUES = 200


@pytest.fixture
def big(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """A transaction with 120,000 messages in 200 queues, a third of them in the last one; rolled back."""
    with psycopg.connect(conninfo()) as conn:
        for table in ("message", "queue", "queue_count", "queue_change", "queue_consumer", "message_attempt"):
            conn.execute(f"analyze brokers_{table}")
        conn.execute(
            "insert into brokers_queue (name, used_at) select 'q' || n, now() from generate_series(1, %s) n", [QUEUES]
        )
        conn.execute(
            "insert into brokers_message (queue_id, priority, pos, lease_until, due_at, expires_at, token, deliveries,"
            " encoding, envelope, body)"
            " select case when n %% 3 = 0 then (select max(id) from brokers_queue)"
            "   else (select min(id) from brokers_queue) + n %% %s end, 0, n,"
            "  case when n %% 10 = 1 then now() + interval '1 hour' end,"
            "  case when n %% 10 = 2 then now() + interval '1 hour' end,"
            "  case when n %% 5 = 0 then now() + interval '1 hour' end,"
            "  case when n %% 10 = 1 then gen_random_uuid() end, 1, 1, '{}', '1'"
            " from generate_series(1, 120000) n",
            [QUEUES],
        )
        conn.execute("insert into brokers_queue_count select queue_id, count(*) from brokers_message group by 1")
        yield conn
        conn.rollback()


def read(conn: psycopg.Connection[Any]) -> tuple[int, int]:
    """Sequential scans of messages, and rows that indexes have led to."""
    row = conn.execute(
        "select seq_scan, idx_tup_fetch from pg_stat_xact_user_tables where relid = 'brokers_message'::regclass"
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def test_it_finds_its_work_by_the_indexes_of_each_queue(big: psycopg.Connection[Any]) -> None:
    tending, lengths, consumers, moving = map(load, ("tending", "lengths", "consumers", "moving"))
    last = (big.execute("select max(id) from brokers_queue").fetchone() or (0,))[0]
    now = (big.execute("select clock_timestamp()").fetchone() or (None,))[0]
    one = {"queue": last, "since": BEGINNING, "most": 3, "limit": 50, "bytes": 10**6, "levels": 5}
    every = {"due": BEGINNING, "lapsed": BEGINNING, "expired": BEGINNING, "now": now}
    purge = {"queue": last, "priority": 0, "after": 0, "newest": 60_000, "limit": 50}
    calls: dict[str, tuple[LiteralString, Any, int]] = {
        "with_work": (tending.with_work, every, 0),
        "promote": (tending.promote, (last, BEGINNING, 50), 0),
        "return_lapsed": (tending.return_lapsed, one, 0),
        "failed_too_often": (tending.failed_too_often, one, 0),
        "expired": (tending.expired, one, 0),
        "head": (tending.head, one, 100),
        "unused": (tending.unused, ([last], [1000]), 1),
        "gone": (tending.gone, (100,), 0),
        "remove_gone": (tending.remove_gone, one, 400),
        "forget_gone": (tending.forget_gone, one, 3),
        "purge": (lengths.purge, purge, 200),
        "purge_delayed": (lengths.purge_delayed, purge, 200),
        "give_back": (consumers.give_back, {"queue": last, "returns": 0, "most": 3, "limit": 50}, 200),
        "head to move": (moving.head, one | {"newest": 10**9}, 100),
        "move": (moving.move, (last, last - 1, None, [3, 6], [0, 0], [None, None]), 10),
    }
    assert not costly(big, calls)


def costly(
    conn: psycopg.Connection[Any], calls: dict[str, tuple[LiteralString, Any, int]]
) -> dict[str, tuple[int, int]]:
    """Those of the calls that scan the table, or read more rows than they may, with what they read."""
    conn.execute(BY_INDEX)
    guilty: dict[str, tuple[int, int]] = {}
    for name, (statement, parameters, rows) in calls.items():
        scans, fetched = read(conn)
        for _ in range(8):
            conn.execute(statement, parameters, prepare=True)
        scans, fetched = (after - before for after, before in zip(read(conn), (scans, fetched), strict=True))
        if scans or fetched > 8 * rows:
            guilty[name] = (scans, fetched)
    return guilty


def test_what_is_due_is_found_among_what_is_not(big: psycopg.Connection[Any]) -> None:
    tending = load("tending")
    chosen = (big.execute("select max(id) from brokers_queue").fetchone() or (0,))[0]
    for column, state in (("due_at", "due_at is not null"), ("lease_until", "lease_until is not null")):
        big.execute(
            f"update brokers_message set {column} = now() - interval '1 minute' where id in"
            f" (select id from brokers_message where queue_id = %s and {state} limit 3)",
            [chosen],
        )
    now = (big.execute("select clock_timestamp()").fetchone() or (None,))[0]
    assert now is not None
    every = {"due": BEGINNING, "lapsed": BEGINNING, "expired": BEGINNING, "now": now}
    assert big.execute(tending.with_work, every).fetchall() == [(chosen, True, True, False)]
    later = dict.fromkeys(("due", "lapsed", "expired"), now - timedelta(seconds=30)) | {"now": now}
    assert big.execute(tending.with_work, later).fetchall() == []


def test_a_step_reads_what_it_takes_of_a_backlog(big: psycopg.Connection[Any]) -> None:
    tending = load("tending")
    last = (big.execute("select max(id) from brokers_queue").fetchone() or (0,))[0]
    for column in ("due_at", "lease_until", "expires_at"):
        big.execute(f"update brokers_message set {column} = {column} - interval '2 hours' where {column} is not null")
    one = {"queue": last, "since": BEGINNING, "limit": 50, "bytes": 10**6}
    calls: dict[str, tuple[LiteralString, Any, int]] = {
        "promote": (tending.promote, (last, BEGINNING, 50), 400),
        "expired": (tending.expired, one, 150),
        "failed_too_often": (tending.failed_too_often, one | {"most": 0}, 150),
        "return_lapsed": (tending.return_lapsed, one | {"most": 3}, 400),
    }
    assert not costly(big, calls)
