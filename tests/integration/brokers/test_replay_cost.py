"""What a step of a large replay and a page about it cost: as much as of a small one, whatever PostgreSQL knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest

from brokers import topics
from brokers.database import conninfo
from brokers.models import ConsumerGroup
from brokers.replays import plans
from brokers.sql import load
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

ITEMS = 60_000
READS = load("replay_reads")


class Large:
    """A replay of 60,000 items, all of the same consumer: 30,000 succeeded, 100 under way, 9,900 to go, 20,000 skipped
    at the plan. Twenty of those that have an outcome failed again."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn
        topic = topics.create(unique(), partitions=1).name
        partition = topics.lookup(topic).partition_id(0)
        group = ConsumerGroup.objects.create(name=unique("group")).name
        [(failure_group,)] = conn.execute(
            "insert into brokers_failure_group (fingerprint, version, source_kind, source, group_name, reason)"
            " values (%s, 1, 'topic', %s, %s, 'exception') returning id",
            [unique(), topic, group],
        ).fetchall()
        [(self.first,)] = conn.execute(
            "with made as (insert into brokers_dead_letter (reason, failure_group_id, source_kind, source, group_name,"
            " partition_id, partition, record_offset, record_timestamp, size, idempotency_key, first_failed_at,"
            " failed_at, state) select 'exception', %s, 'topic', %s, %s, %s, 0, n, 0, 9, n::text, now(), now(),"
            " case when n < 30000 then 'replayed' when n < 30100 then 'replaying' else 'open' end"
            " from generate_series(0, %s) n returning id), revised as (insert into brokers_dead_letter_revision"
            " (dead_letter_id, number, key, value, encoding, headers) select id, 1, 'k', '1', 1, '{}' from made)"
            " select min(id) from made",
            [failure_group, topic, group, partition, ITEMS - 1],
        ).fetchall()
        conn.execute(
            "insert into processed_messages (consumer, message_key) select %s, 'x' || n from generate_series(0, %s) n",
            [group, ITEMS],
        )
        [(self.id,)] = conn.execute(
            "insert into brokers_replay (state, selection, consumers, skips, created_by, total, next_position)"
            " values ('running', '{}', '[]', '{}', 'ada', 40000, 30100) returning id"
        ).fetchall()
        conn.execute(
            "insert into brokers_replay_item (replay_id, position, dead_letter_id, revision, outcome, sent_at,"
            " finished_at) select %s, n, %s + n, 1,"
            " case when n < 30000 then case when n %% 1500 = 7 then 'failed_again' else 'succeeded' end"
            " when n < 40000 then 'waiting' else 'skipped' end, case when n < 30100 then now() end,"
            " case when n < 30000 then now() - interval '1 hour' + n * interval '1 millisecond' end"
            " from generate_series(0, %s) n",
            [self.id, self.first, ITEMS - 1],
        )

    def pages(self, statement: LiteralString, parameters: Any) -> int:
        """Pages that a statement touches under its generic plan."""
        explained: Any = f"explain (analyze, buffers, format json) {statement}"
        [[plan]] = self.conn.execute(explained, parameters, prepare=True).fetchall()
        found = plan if isinstance(plan, list) else json.loads(plan)
        return int(found[0]["Plan"]["Shared Hit Blocks"]) + int(found[0]["Plan"]["Shared Read Blocks"])


@pytest.fixture(params=["known", "unknown"])
def large(request: pytest.FixtureRequest) -> Iterator[Large]:
    with psycopg.connect(conninfo()) as conn:
        made = Large(conn)
        if request.param == "known":
            conn.execute("analyze")
        conn.execute("set plan_cache_mode = force_generic_plan")
        yield made
        conn.rollback()


def test_a_step_looks_at_what_it_moves_and_no_more(large: Large) -> None:
    sql = plans.SQL
    large.conn.execute(sql.by_index)
    assert large.conn.execute(sql.standing, (2500, large.id)).fetchall() == [(30_100, 29_980, 20, 100, True)]
    assert large.pages(sql.standing, (2500, large.id)) < 3000
    assert large.conn.execute(sql.newest_outcomes, (large.id, 50)).fetchall() == [(50, 0)]
    assert large.pages(sql.newest_outcomes, (large.id, 50)) < 200
    wanted = {
        "replay": large.id,
        "position": 30_100,
        "items": 100,
        "bytes": 2**24,
        "to_source": True,
        "patched": True,
    }
    ready = large.conn.execute(sql.next, wanted).fetchall()
    assert [(row[1], row[4]) for row in ready] == [(number, "") for number in range(30_100, 30_200)]
    assert large.pages(sql.next, wanted) < 6000
    items, letters = [row[0] for row in ready], [row[2] for row in ready]
    sent = {"items": items, "letters": letters, "published": False}
    assert large.pages(sql.sent, sent) < 15_000
    assert large.pages(sql.skipped, ("gone", items)) < 8000
    assert large.pages(sql.skip_unsent, {"replay": large.id, "limit": 100}) < 8000


def test_a_page_about_it_is_cheap(large: Large) -> None:
    assert large.pages(READS.get, (large.id,)) < 50
    assert large.pages(READS.page, {"before": 2**62, "states": None, "limit": 51}) < 200
    assert large.pages(READS.items, {"replay": large.id, "after": 35_000, "limit": 51}) < 300
    failed = {"replay": large.id, "outcome": "failed_again", "after": -1, "limit": 51}
    assert len(large.conn.execute(READS.items_by_outcome, failed).fetchall()) == 20
    assert large.pages(READS.items_by_outcome, failed) < 300
    assert large.pages(READS.of_letters, ([large.first, large.first + 31_000], 20)) < 200
    assert large.pages(READS.progress, (large.id,)) < 8000
    assert large.pages(READS.moving, ()) < 100


def test_a_few_dead_letters_are_judged_without_looking_at_the_others(large: Large) -> None:
    large.conn.execute("analyze")
    statement = plans.SQL.judge.replace("true /* selected */", "d.id = any(%s::bigint[])")
    chosen = [large.first + 30_100 + number for number in range(50)]
    parameters = [None, True, True, 1000, chosen, 1001]
    assert sum(row[4] for row in large.conn.execute(statement, parameters) if row[0] == "why") == 50
    assert large.pages(statement, parameters) < 3000
