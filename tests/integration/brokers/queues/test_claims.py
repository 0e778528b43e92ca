"""Claims: nobody gets what another holds, tokens decide, and what was given back is found again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from django.conf import settings
from django.db import connection, connections, transaction

from brokers import database, send_many
from brokers.database import conninfo
from brokers.errors import InvalidValue
from brokers.models import Message as Row
from brokers.queues import claim_hints, claims, consumers, declaring, topology
from brokers.queues.claims import Claim
from brokers.queues.topology import QueueInfo
from tests.integration.brokers.queues.living import bodies, figures, pass_time, put, queue, take
from tests.server import ROOT

pytestmark = pytest.mark.django_db(transaction=True)


def fill(of: QueueInfo, count: int, **columns: str) -> None:
    """Messages with numbers as bodies; columns are SQL, `g` being the number."""
    names, values = "".join(f", {name}" for name in columns), "".join(f", {value}" for value in columns.values())
    with connection.cursor() as cursor:
        cursor.execute(
            f"insert into brokers_message (queue_id, pos, encoding, envelope, body{names})"
            f" select %s, nextval('brokers_message_pos_seq'), 1, '{{}}', g::text::bytea{values}"
            " from generate_series(1, %s) g",
            [of.id, count],
        )
        cursor.execute("insert into brokers_queue_change (queue_id, arrived) values (%s, %s)", [of.id, count])


def store_variables() -> dict[str, str]:
    """The database and the Valkey of the tests, for another process."""
    database = connection.settings_dict
    host, secret = (
        quote(str(database["HOST"]), safe=""),
        f":{quote(database['PASSWORD'])}" if database["PASSWORD"] else "",
    )
    port = f":{database['PORT']}" if database["PORT"] else ""
    url = f"postgresql://{database['USER']}{secret}@{host}{port}/{database['NAME']}"
    return {"DATABASE_URL": url, "REDIS_URL": settings.REDIS_URL}


def elsewhere(statement: str, *parameters: Any) -> list[Any]:
    """What another process did or sees."""
    with psycopg.connect(conninfo(), autocommit=True) as conn:
        cursor = conn.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


# -- taking -------------------------------------------------------------------------------------------------------


def test_the_highest_priority_comes_first_and_the_oldest_of_it() -> None:
    of = queue(max_priority=5)
    for body, priority in (("a", 1), ("b", 5), ("c", 1), ("d", 9), ("e", None)):
        put(of, body, priority=priority)
    assert [message.body for message in take(of, 2)] == ["b", "d"]
    assert [message.body for message in take(of)] == ["a", "c", "e"]
    assert take(of) == []


def test_no_message_is_handed_out_twice_to_claimers_at_once() -> None:
    of = queue()
    fill(of, 2000)
    taken: Counter[int] = Counter()
    lock = threading.Lock()

    def drain() -> None:
        try:
            while found := take(of, 7):
                with lock:
                    taken.update(message.id for message in found)
                claims.ack(of, [Claim.of(message) for message in found])
        finally:
            connections.close_all()

    threads = [threading.Thread(target=drain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    while found := take(of, 100):
        taken.update(message.id for message in found)
        claims.ack(of, [Claim.of(message) for message in found])
    assert len(taken) == 2000
    assert set(taken.values()) == {1}
    assert figures(of) == (0, 0, 0)


def test_a_claim_locks_no_more_messages_than_it_takes() -> None:
    of = queue(max_priority=2)
    fill(of, 30, priority="mod(g, 3)")
    with transaction.atomic():
        mine = {message.row for message in take(of, 4)}
        free = elsewhere("select id from brokers_message where queue_id = %s for update skip locked", of.id)
        assert len(mine) == 4
        assert {row for (row,) in free} == set(Row.objects.values_list("id", flat=True)) - mine


def test_what_has_expired_is_delayed_or_held_is_not_handed_out() -> None:
    of = queue()
    put(of, "expired", expiration_ms=60_000)
    pass_time(of, "expires_at")
    put(of, "delayed", delay_ms=60_000)
    put(of, "held", "free")
    assert [message.body for message in take(of, 1)] == ["held"]
    assert [message.body for message in take(of)] == ["free"]


def test_a_paused_queue_hands_nothing_out_also_where_that_is_not_known_yet() -> None:
    of = queue()
    put(of, 1)
    declaring.pause_queue(of.name)
    assert take(of) == []
    assert claims.claim(of, 1, 1000, "me") == []  # by the topology from before
    declaring.resume_queue(of.name)
    assert len(take(of)) == 1


def test_a_deleted_queue_hands_nothing_out() -> None:
    of = queue()
    put(of, 1)
    declaring.delete_queue(of.name)
    assert claims.claim(of, 1, 1000, "me") == []


def test_only_the_active_consumer_of_a_single_active_queue_gets_messages() -> None:
    of = queue(single_active_consumer=True)
    put(of, 1, 2, 3)
    assert take(of, holder="nobody") == []
    assert consumers.register(of, "first", "rest") is True
    assert consumers.register(of, "second", "rest") is False
    assert claims.claim(of, 1, 1000, "second") == []
    assert len(claims.claim(of, 1, 1000, "anyone", consumer="first")) == 1
    consumers.leave(of, "first")
    assert len(claims.claim(of, 10, 1000, "second")) == 3


def test_each_claim_of_a_message_counts_and_has_a_token_of_its_own() -> None:
    of = queue()
    put(of, 1)
    [first] = take(of, holder="one")
    claims.requeue(of, [Claim.of(first)])
    [second] = take(of, holder="two")
    assert (second.row, second.id) == (first.row, first.id)
    assert second.token != first.token
    assert (second.deliveries, second.returns, second.redelivered, second.holder) == (2, 1, True, "two")


# -- settling -----------------------------------------------------------------------------------------------------


def test_an_acknowledgement_removes_what_is_still_held_and_nothing_else() -> None:
    of, other = queue(), queue()
    put(of, 1, 2, 3)
    one, two, three = (Claim.of(message) for message in take(of))
    stranger = Claim(one.row, two.token)
    assert claims.ack(other, [one]) == set()
    assert claims.ack(of, [stranger]) == set()
    assert claims.ack(of, [two, stranger]) == {two}
    assert claims.ack(of, [two]) == set()
    assert claims.ack(of, []) == set()
    assert claims.ack(of, [three, one, one]) == {one, three}
    put(of, 4)
    [former] = take(of)
    claims.requeue(of, [Claim.of(former)])
    pair = [Claim.of(former), *map(Claim.of, take(of))]
    assert claims.extend(of, pair, 1000) == claims.ack(of, pair) == {pair[1]}
    assert figures(of) == (0, 0, 0)


def test_a_lapsed_claim_holds_until_another_has_taken_the_message() -> None:
    of = queue()
    put(of, 1, 2)
    one, two = (Claim.of(message) for message in take(of))
    Row.objects.filter(queue_id=of.id).update(lease_until=None)  # as tending does when a lease has lapsed
    [again] = take(of, 1)
    assert again.row == one.row
    assert claims.ack(of, [one, two]) == {two}
    assert claims.ack(of, [Claim.of(again)]) == {Claim.of(again)}


def test_a_requeued_message_keeps_its_place_and_its_former_claim_is_worth_nothing() -> None:
    of = queue()
    put(of, 1, 2, 3)
    first, second = take(of, 2)
    assert claims.requeue(of, [Claim.of(second), Claim.of(first)]) == {Claim.of(first), Claim.of(second)}
    assert claims.requeue(of, [Claim.of(first)]) == set()
    assert claims.ack(of, [Claim.of(first)]) == set()
    assert claims.extend(of, [Claim.of(first)], 1000) == set()
    assert claims.locked(of, [Claim.of(first)]) == []
    assert [message.body for message in take(of)] == [1, 2, 3]


def test_a_message_requeued_with_a_delay_waits_for_it() -> None:
    of = queue()
    put(of, 1)
    [found] = take(of)
    claims.requeue(of, [Claim.of(found)], 30_000)
    assert take(of) == []
    row = Row.objects.get(id=found.row)
    assert row.due_at is not None
    assert 25 < (row.due_at - found.published_at).total_seconds() < 60
    assert figures(of) == (0, 0, 1)


def test_a_return_that_counts_is_a_failed_delivery_and_one_that_does_not_is_none() -> None:
    of = queue()
    put(of, 1)
    for counts, expected in ((False, (1, 1)), (True, (2, 1)), (False, (3, 2))):
        [found] = take(of)
        claims.requeue(of, [Claim.of(found)], counts=counts)
        row = Row.objects.get(id=found.row)
        assert (row.deliveries, row.returns) == expected


def test_an_extension_lasts_from_now_on() -> None:
    of = queue()
    put(of, 1, 2)
    one, two = take(of, lease_ms=1000)
    assert claims.extend(of, [Claim.of(one)], 600_000) == {Claim.of(one)}
    longer, shorter = Row.objects.get(id=one.row).lease_until, Row.objects.get(id=two.row).lease_until
    assert longer is not None
    assert shorter is not None
    assert (longer - shorter).total_seconds() > 500
    assert claims.extend(of, [], 1000) == set()


def test_locked_messages_are_those_still_held_in_order() -> None:
    of = queue()
    put(of, 1, 2, 3)
    held = [Claim.of(message) for message in take(of)]
    claims.ack(of, held[:1])
    with transaction.atomic():
        found = claims.locked(of, held[::-1])
        assert [message.body for message in found] == [2, 3]
        free = elsewhere("select id from brokers_message where queue_id = %s for update skip locked", of.id)
        assert free == []


def test_claimers_who_settle_the_same_messages_in_any_order_never_deadlock() -> None:
    of = queue()
    fill(of, 300)
    held = [Claim.of(message) for message in take(of, 300)]
    failed: list[BaseException] = []

    def settle(order: int) -> None:
        try:
            for start in range(0, 300, 30):
                some = held[start : start + 30][::order]
                claims.extend(of, some, 5000)
                claims.requeue(of, some[:3])
                claims.ack(of, some)
        except Exception as error:
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=settle, args=(order,)) for order in (1, -1, 1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert figures(of).unacknowledged == 0


def test_a_claim_or_an_acknowledgement_leaves_the_callers_commit_as_durable_as_it_was() -> None:
    of = queue()
    put(of, 1)
    with transaction.atomic(), connection.cursor() as cursor:
        claims.ack(of, [Claim.of(message) for message in take(of)])
        cursor.execute("show synchronous_commit")
        assert cursor.fetchone() == ("on",)


# -- hints --------------------------------------------------------------------------------------------------------


def test_what_became_ready_below_the_hint_is_handed_out_within_a_second() -> None:
    of = queue()
    fill(of, 5000)
    first = take(of, 3)
    take(of, 3)
    elsewhere("update brokers_message set lease_until = null where id = %s", first[0].row)  # in another process
    deadline = time.monotonic() + 2 * claim_hints.FULL_SCAN_SECONDS
    while first[0].id not in [message.id for message in take(of, 2)]:
        assert time.monotonic() < deadline


def test_an_empty_queue_finds_what_came_back_below_the_hint() -> None:
    of = queue()
    put(of, *range(20))
    first = take(of, 10)
    assert len(take(of, 10)) == 10
    assert take(of, 10) == []
    elsewhere("update brokers_message set lease_until = null where id = %s", first[0].row)
    deadline = time.monotonic() + claim_hints.FULL_SCAN_SECONDS
    while not (found := take(of, 10)):
        assert time.monotonic() < deadline
    assert found[0].id == first[0].id


def test_what_this_process_gives_back_is_the_next_at_once() -> None:
    of = queue()
    fill(of, 50)
    first = take(of, 3)
    take(of, 3)
    claims.requeue(of, [Claim.of(first[1])])
    assert take(of, 1)[0].id == first[1].id


def test_a_message_of_a_transaction_that_commits_late_is_found() -> None:
    of = queue()
    with psycopg.connect(conninfo()) as conn:
        conn.execute(
            "insert into brokers_message (queue_id, pos, encoding, envelope, body)"
            " values (%s, nextval('brokers_message_pos_seq'), 1, '{}', '\"late\"')",
            [of.id],
        )
        put(of, *range(10))
        assert [message.body for message in take(of, 5)] == [0, 1, 2, 3, 4]
        conn.commit()
    deadline = time.monotonic() + 2 * claim_hints.FULL_SCAN_SECONDS
    found: list[Any] = []
    while "late" not in found:
        found += [message.body for message in take(of, 1)]
        assert time.monotonic() < deadline


CHILD = """
import sys
import django
django.setup()
from brokers.queues import claims, topology
queue = topology.queue(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while found := claims.claim(queue, 9, 60000, "child"):
    held = claims.ack(queue, [claims.Claim.of(message) for message in found])
    print(*(message.id for message in found if claims.Claim.of(message) in held), flush=True)
"""


def test_two_processes_share_a_queue_while_one_of_them_gives_back(tmp_path: Path) -> None:
    of = queue()
    fill(of, 3000)
    environment = {**os.environ, **store_variables(), "WAYSTATION_DATA_DIR": str(tmp_path), "WAYSTATION_APPS": ""}
    environment["DJANGO_SETTINGS_MODULE"] = "messaging_site.settings"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, of.name],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.stdin.write("go\n")
        child.stdin.flush()
        mine: list[int] = []
        while found := take(of, 11):
            back = [Claim.of(message) for message in found if message.deliveries == 1 and message.id % 3 == 0]
            assert claims.requeue(of, back) == set(back)
            held = claims.ack(of, [Claim.of(message) for message in found])
            mine += [message.id for message in found if Claim.of(message) in held]
        theirs = [int(number) for number in child.communicate(timeout=60)[0].split()]
    while found := take(of):
        mine += [message.id for message in found]
        claims.ack(of, [Claim.of(message) for message in found])
    assert theirs
    assert len(mine) + len(theirs) == len({*mine, *theirs}) == 3000
    assert figures(of) == (0, 0, 0)


# -- plans --------------------------------------------------------------------------------------------------------


def scanned() -> tuple[int, int]:
    """Sequential scans of messages in this transaction, and rows that indexes found."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select seq_scan, coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables"
            " where relid = 'brokers_message'::regclass"
        )
        row = cursor.fetchone()
        return (row[0], row[1]) if row else (0, 0)


def test_a_claim_reads_what_it_takes_whatever_the_statistics_say() -> None:
    of = queue(max_priority=3)
    with connection.cursor() as cursor:
        cursor.execute("analyze brokers_message")  # of the empty table
        cursor.execute("alter table brokers_message set (autovacuum_enabled = off)")
    try:
        for other in (queue() for _ in range(3)):
            fill(other, 5000)
        fill(of, 60_000, priority="mod(g, 3)")
        with transaction.atomic():
            before = scanned()
            for _ in range(12):
                found = take(of, 10)
                held = [Claim.of(message) for message in found]
                assert len(claims.extend(of, held, 1000)) == 10
                assert len(claims.requeue(of, held[:3], 1000)) == 3
                assert len(claims.ack(of, held)) == 7
            scans, rows = scanned()
        assert scans == before[0]
        assert rows - before[1] < 12 * 10 * 12
        with transaction.atomic():
            before = scanned()
            claims.peek(of, limit=50)
            claims.peek(of, "ready.1.500", 50)
            assert scanned()[0] == before[0]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("alter table brokers_message reset (autovacuum_enabled)")


def test_a_claim_of_large_bodies_is_bounded_in_bytes_and_the_rest_stays_ready() -> None:
    of = queue()
    for _ in range(8):
        put(of, b"x" * (6 * 1024 * 1024))
    first = take(of, 1000)
    assert 3 <= len(first) <= 6
    rest: list[int] = []
    while found := take(of, 1000):
        rest += [message.id for message in found]
    assert len({message.id for message in first}.union(rest)) == len(first) + len(rest) == 8


def test_an_emptied_head_is_not_read_again_while_an_old_snapshot_keeps_its_remains() -> None:
    of = queue()
    fill(of, 12_000)
    with psycopg.connect(conninfo()) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("select count(*) from brokers_message")
        for _ in range(20):
            assert len(claims.ack(of, [Claim.of(message) for message in take(of, 500)])) == 500
        hints = claim_hints.of(of.id)
        take(of, 5)
        hints.learn([0], [], was_full=True, is_short=False, took=0.0)  # a look from the head on was just now
        first = Row.objects.filter(queue_id=of.id, lease_until=None).order_by("pos").first()
        assert first is not None
        assert (hints.start([0]) or [0])[0] >= first.pos - 501
        assert len(take(of, 5)) == 5


# -- looking ------------------------------------------------------------------------------------------------------


def test_looking_shows_all_states_page_by_page_and_changes_nothing() -> None:
    of = queue(max_priority=2)
    for body, priority in (("a", 0), ("b", 2), ("c", 0), ("d", 2), ("e", 1)):
        put(of, body, priority=priority)
    take(of, 1)
    put(of, "later", delay_ms=90_000)
    put(of, "soon", delay_ms=60_000)
    before = list(Row.objects.filter(queue_id=of.id).order_by("id").values())
    expected = ["d", "e", "a", "c", "soon", "later", "b"]
    assert bodies(of) == expected
    for size in (1, 2, 3, 5, 100):
        seen: list[Any] = []
        after = None
        while page := claims.peek(of, after, size):
            seen += [message.body for message in page]
            after = claims.place_of(page[-1])
            assert len(page) <= size
        assert seen == expected
    assert list(Row.objects.filter(queue_id=of.id).order_by("id").values()) == before


@pytest.mark.parametrize(
    "after",
    ["", "x", "ready", "ready.1", "ready.1.2.3", "gone.1.2", "ready.-1.2", "ready.1.9223372036854775808", "ready.1.x",
     "delayed.999999999999999999999.1", "a" * 1000, "ready.\u0661.1"],
)  # fmt: skip
def test_what_is_no_place_of_a_message_is_refused(after: str) -> None:
    with pytest.raises(InvalidValue):
        claims.peek(queue(), after)


def test_a_place_beyond_the_end_is_the_end() -> None:
    of = queue()
    put(of, 1)
    for after in ("ready.0.9223372036854775807", "delayed.288230376151711743.1", "unacknowledged.0.5"):
        assert claims.peek(of, after) == []
    assert [message.body for message in claims.peek(of, "ready.40000.7")] == [1]  # of a priority above its own


# -- asynchronous code ----------------------------------------------------------------------------------------------


@pytest.fixture
async def pooled() -> AsyncIterator[None]:
    yield
    await database.close()


async def test_asynchronous_code_claims_and_settles_likewise(pooled: None) -> None:
    def declared() -> QueueInfo:
        try:
            of = queue(expires_ms=600_000)
            send_many("", [{"body": n, "routing_key": of.name} for n in range(6)])
            return topology.queue(of.name)
        finally:
            connections.close_all()

    of = await asyncio.to_thread(declared)
    found = [Claim.of(message) for message in await claims.aclaim(of, 4, 30_000, "me")]
    assert len(found) == 4
    assert await claims.aextend(of, found, 60_000) == set(found)
    assert await claims.arequeue(of, found[:1]) == {found[0]}
    assert await claims.aack(of, found) == set(found[1:])
    assert await claims.aack(of, []) == await claims.arequeue(of, []) == await claims.aextend(of, [], 1) == set()
    assert [message.body for message in await claims.aclaim(of, 10, 30_000, "me")] == [0, 4, 5]
