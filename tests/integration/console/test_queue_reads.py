"""What the console reads of queues stays cheap over a long queue, and shows the same order as a claim."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from brokers.database import sync_cursor
from brokers.queues import claims, topology
from brokers.selectors import queue_console
from tests.integration.console.queueing import Airport, airport

LENGTH = 30_000


@pytest.fixture
def jfk(transactional_db: None) -> Airport:
    return airport()


def fill(queue_id: int) -> None:
    """Messages of all priorities, every tenth of them delayed and every tenth under a claim."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            insert into brokers_message (queue_id, priority, pos, due_at, lease_until, token, holder, claimed_at,
              encoding, envelope, body)
            select %s, n %% 6, nextval('brokers_message_pos_seq'),
              case when n %% 10 = 0 then now() + n * interval '1 second' end,
              case when n %% 10 = 1 then now() + n * interval '1 second' end,
              case when n %% 10 = 1 then gen_random_uuid() end, 'desk', now(), 1, '{}', convert_to(n::text, 'UTF8')
            from generate_series(1, %s) n
            """,
            [queue_id, LENGTH],
        )
        cursor.execute("analyze brokers_message")


def touched(plan: dict[str, Any]) -> int:
    """How many rows of messages a plan read, those that it filtered away among them."""
    own = 0
    if plan.get("Relation Name") == "brokers_message":
        each = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        own = round(each * plan["Actual Loops"])
        assert plan["Node Type"] != "Seq Scan"
    return own + sum(touched(part) for part in plan.get("Plans", []))


def test_a_page_of_a_long_queue_reads_little(jfk: Airport) -> None:
    queue = topology.queue("rebooking")
    fill(queue.id)
    beginning: dict[str, Any] = {"kind": 0, "major": 0, "minor": -1}
    middle = {"kind": 0, "major": 253, "minor": LENGTH // 2}
    for place in (beginning, middle, {"kind": 1, "major": 0, "minor": 0}, {"kind": 2, "major": 0, "minor": 0}):
        asked = {"queue": queue.id, "most": 5, "limit": 51, "bytes": 100, **place}
        with sync_cursor() as cursor:
            row = cursor.execute(f"explain (analyze, format json) {queue_console.SQL.look}", asked).fetchone()
        assert row is not None
        assert touched(row[0][0]["Plan"]) < 51 * 20


def test_ready_messages_are_shown_as_they_will_be_handed_out(jfk: Airport) -> None:
    queue = topology.queue("rebooking")
    fill(queue.id)
    seen: list[int] = []
    after = ""
    for _ in range(3):
        page = queue_console.look(queue, after, 40)
        seen += [each.message.id for each in page]
        after = page[-1].place
    assert seen == [message.id for message in claims.claim(queue, 120, 60_000, "desk-1")]
