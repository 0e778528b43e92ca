"""The redelivery lane: what is due, in which order, and that a long lane costs no more than a short one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest
from django.db import connection, transaction

from brokers import redeliveries, topics
from brokers.database import conninfo
from brokers.deliveries import Delivery, Redelivered
from brokers.models import ConsumerGroup, Redelivery
from brokers.record import JSON, Record
from brokers.redeliveries import SQL
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

LATER = 3_600_000


class Lane:
    """A partition of a topic of its own, and one group's lane of it."""

    def __init__(self) -> None:
        self.topic = topics.create(unique(), partitions=1).name
        self.partition_id = topics.lookup(self.topic).partition_id(0)
        self.group = unique("group")
        self.group_id = ConsumerGroup.objects.create(name=self.group).pk
        self.offset = 0

    def delivery(self, key: bytes | None, value: bytes = b"{}", redelivery: Redelivered | None = None) -> Delivery:
        self.offset += 1
        record = Record(7, key, value, JSON, {"h": "\x00ü"}, self.offset, 0, self.topic)
        return Delivery(self.group, self.group_id, "handler", self.partition_id, record, redelivery)

    def park(self, *keys: bytes | None, delay_ms: int = 0) -> list[int]:
        before = redeliveries.newest(self.group_id, self.partition_id)
        for key in keys:
            redeliveries.park(self.delivery(key), delay_ms)
        return list(Redelivery.objects.filter(pk__gt=before).order_by("pk").values_list("pk", flat=True))

    def due(self, limit: int = 100, held_back: tuple[bytes, ...] = ()) -> list[int]:
        found = redeliveries.due(self.group_id, self.partition_id, limit, held_back)
        return [redelivered.id for redelivered, _ in found]

    def taken(self, *ids: int) -> list[Delivery]:
        found = redeliveries.due(self.group_id, self.partition_id, 1000)
        return [self.delivery(None, redelivery=each) for each, _ in found if each.id in ids]

    def settle(self, *ids: int) -> None:
        with transaction.atomic():
            assert redeliveries.settle(self.taken(*ids)) == len(ids)

    def next_due(self) -> float | None:
        return redeliveries.next_due(self.group_id, [self.partition_id]).get(self.partition_id)


@pytest.fixture
def lane() -> Lane:
    return Lane()


def test_a_parked_record_comes_back_as_it_was(lane: Lane) -> None:
    redeliveries.park(lane.delivery(b"\x00\xff", b'{"a": 1.0}'), 0)
    [(redelivered, record)] = redeliveries.due(lane.group_id, lane.partition_id, 10)
    assert (record.key_bytes, record.value_bytes, record.encoding) == (b"\x00\xff", b'{"a": 1.0}', JSON)
    assert (record.topic, record.partition, record.offset, record.timestamp) == (lane.topic, 0, 1, 7)
    assert record.headers == {"h": "\x00ü"}
    assert redelivered.cause == "retry"
    assert (redelivered.dead_letter_id, redelivered.replay_item_id, redelivered.revision) == (None, None, 1)
    assert redelivered.first_failed_at is not None


def test_tombstones_and_records_without_a_key_come_back_too(lane: Lane) -> None:
    delivery = lane.delivery(None)
    delivery.record = Record(1, None, None, JSON, {}, 5, 0, lane.topic)
    redeliveries.park(delivery, 0)
    [(_, record)] = redeliveries.due(lane.group_id, lane.partition_id, 10)
    assert record.key_bytes is record.value_bytes is None


def test_nothing_is_due_before_its_time(lane: Lane) -> None:
    lane.park(b"a", delay_ms=LATER)
    assert lane.due() == []
    assert 3590 < (lane.next_due() or 0) <= 3600
    [soon] = lane.park(b"b")
    assert lane.due() == [soon]
    assert lane.next_due() == 0.0


def test_an_empty_lane_has_no_next_and_no_newest(lane: Lane) -> None:
    assert redeliveries.next_due(lane.group_id, [lane.partition_id]) == {}
    assert redeliveries.newest(lane.group_id, lane.partition_id) == 0
    assert [lane.park(b"a", b"b")[1]] == [redeliveries.newest(lane.group_id, lane.partition_id)]


def test_what_was_parked_is_seen_by_its_group_and_partition_alone(lane: Lane) -> None:
    [mine] = lane.park(b"a")
    other = Lane()
    assert other.due() == []
    assert redeliveries.due(other.group_id, lane.partition_id, 10) == []
    assert redeliveries.next_due(other.group_id, [lane.partition_id]) == {}
    assert lane.due() == [mine]


def test_the_oldest_due_comes_first_and_its_key_with_it(lane: Lane) -> None:
    a1, b1, a2, none1, b2, none2 = lane.park(b"a", b"b", b"a", None, b"b", None)
    assert lane.due() == [a1, a2, b1, b2, none1, none2]
    assert lane.due(limit=2) == [a1, b1]
    assert lane.due(held_back=(b"a",)) == [b1, b2, none1, none2]


def test_a_record_that_waits_holds_back_those_of_its_key_and_no_others(lane: Lane) -> None:
    [first] = lane.park(b"a", delay_ms=LATER)
    second, other = lane.park(b"a", b"b")
    assert lane.due() == [other]
    lane.settle(other)
    assert 3590 < (lane.next_due() or 0) <= 3600
    redeliveries.park(lane.delivery(b"a", redelivery=Redelivered(first, "retry", None, None, 1, None)), 0)
    assert lane.due() == [first, second]


def test_a_redelivery_that_fails_keeps_its_place_before_its_key(lane: Lane) -> None:
    first, second = lane.park(b"a", b"a")
    [delivery] = lane.taken(first)
    redeliveries.park(delivery, LATER)
    assert lane.due() == []
    redeliveries.park(delivery, 0)
    assert lane.due() == [first, second]
    lane.settle(first)
    assert lane.due() == [second]
    assert lane.next_due() == 0.0


def test_one_that_was_held_back_still_waits_for_its_own_time(lane: Lane) -> None:
    [first] = lane.park(b"a")
    [second] = lane.park(b"a", delay_ms=LATER)
    third, fourth = lane.park(b"a", b"b")
    assert lane.due() == [first, fourth], "the third must not pass the second"
    lane.settle(first)
    assert lane.due() == [fourth]
    assert Redelivery.objects.filter(pk__in=[second, third]).count() == 2


def test_a_lane_gives_whole_records_until_enough_bytes(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redeliveries, "MAX_FETCH_BYTES", 25)
    for _ in range(4):
        redeliveries.park(lane.delivery(None, b'"123456789"'), 0)
    assert len(lane.due()) == 3


def test_settling_what_is_gone_changes_nothing(lane: Lane) -> None:
    lane.park(b"a")
    deliveries = lane.taken(*lane.due())
    assert redeliveries.settle(deliveries) == 1
    assert redeliveries.settle(deliveries) == 0
    assert redeliveries.settle([lane.delivery(b"a")]) == 0
    assert redeliveries.settle([]) == 0


def test_what_settles_in_a_transaction_that_fails_stays(lane: Lane) -> None:
    first, second = lane.park(b"a", b"a")
    deliveries = lane.taken(first)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        redeliveries.settle(deliveries)
        raise ZeroDivisionError
    assert lane.due() == [first, second]


def test_one_parked_while_its_predecessor_is_settled_is_never_stranded(lane: Lane) -> None:
    """Either order of the two transactions: who waits for whom, the key's next is found."""
    for settle_first in (True, False):
        [first] = lane.park(b"a")
        delivery = lane.taken(first)
        with psycopg.connect(conninfo()) as other:
            if settle_first:
                other.execute(SQL.settle, ([first], []))
                [second] = lane.park(b"a")
                assert lane.due() == [first, second]
                other.commit()
            else:
                other.execute("select 1 from brokers_redelivery where id = %s for key share", [first])
                ended = threading.Event()

                def settle(delivery: list[Delivery] = delivery, ended: threading.Event = ended) -> None:
                    redeliveries.settle(delivery)
                    ended.set()
                    connection.close()

                thread = threading.Thread(target=settle)
                thread.start()
                other.execute(
                    "insert into brokers_redelivery (group_id, partition_id, topic, partition, record_offset,"
                    " record_timestamp, due_at, cause, key, key_hash, held, encoding, headers)"
                    " select group_id, partition_id, topic, partition, record_offset, record_timestamp, due_at, cause,"
                    " key, key_hash, true, encoding, headers from brokers_redelivery where id = %s",
                    [first],
                )
                assert not ended.is_set(), "who adds behind it keeps it in place"
                other.commit()
                thread.join(10)
        [left] = lane.due()
        assert lane.next_due() == 0.0
        lane.settle(left)


def test_lanes_of_deleted_topics_are_emptied_and_no_others(lane: Lane) -> None:
    lane.park(b"a", b"b")
    kept = Lane()
    kept.park(b"a")
    groupless = Lane()
    groupless.park(None)
    ConsumerGroup.objects.filter(pk=groupless.group_id).delete()
    assert redeliveries.purge_orphans() == 1
    topics.delete(lane.topic)
    assert redeliveries.purge_orphans() == 2
    assert redeliveries.purge_orphans() == 0
    assert len(kept.due()) == 1


# -- a long lane ----------------------------------------------------------------------------------------------------

LONG = 50_000


@pytest.fixture(params=["known", "unknown"])
def statistics(request: pytest.FixtureRequest) -> str:
    """Whether PostgreSQL has looked at the lane since it grew."""
    return str(request.param)


@pytest.fixture(params=["one key", "keys of their own", "no key", "held by one that waits"])
def long_lane(
    request: pytest.FixtureRequest, lane: Lane, statistics: str
) -> Iterator[tuple[psycopg.Connection[Any], Lane, str]]:
    """A transaction in which one lane holds 50,000 rows, and others as many; rolled back."""
    key = {"keys of their own": "n::text", "no key": "null"}.get(request.param, "'k'")
    waiting = request.param == "held by one that waits"
    with psycopg.connect(conninfo()) as conn:
        conn.execute(
            "insert into brokers_redelivery (group_id, partition_id, topic, partition, record_offset, record_timestamp,"
            " due_at, cause, key, key_hash, held, encoding, headers)"
            " select %(group)s, %(partition)s - n %% 2, 't', 0, n, 0,"
            " now() + case when %(waiting)s and n = 0 then interval '1 hour' else n * interval '-1 microsecond' end,"
            f" 'retry', {key}::text::bytea, hashtextextended({key}, 0),"
            f" coalesce(row_number() over (partition by n %% 2, {key} order by n) > 1 and {key} is not null, false),"
            " 1, '{}'::bytea from generate_series(0, %(rows)s - 1) as s (n) order by s.n",
            {"group": lane.group_id, "partition": lane.partition_id, "rows": 2 * LONG, "waiting": waiting},
        )
        if statistics == "known":
            conn.execute("analyze brokers_redelivery")
        conn.execute("set plan_cache_mode = force_generic_plan")
        yield conn, lane, request.param
        conn.rollback()


def pages(conn: psycopg.Connection[Any], statement: LiteralString, parameters: Any) -> int:
    """Pages that a statement touches under its generic plan."""
    text = statement.removeprefix("-- ")
    [[plan]] = conn.execute(f"explain (analyze, buffers, format json) {text}", parameters, prepare=True).fetchall()
    found = plan if isinstance(plan, list) else json.loads(plan)
    return int(found[0]["Plan"]["Shared Hit Blocks"]) + int(found[0]["Plan"]["Shared Read Blocks"])


def test_a_long_lane_costs_as_little_as_a_short_one(
    long_lane: tuple[psycopg.Connection[Any], Lane, str],
) -> None:
    conn, lane, kind = long_lane
    due: tuple[Any, ...] = (lane.group_id, lane.partition_id, 100, 2**23, [])
    found = conn.execute(SQL.due, due).fetchall()
    assert len(found) == (0 if kind == "held by one that waits" else 100)
    assert pages(conn, SQL.due, due) < 2000
    assert pages(conn, SQL.next_due, (lane.group_id, [lane.partition_id])) < 500
    assert pages(conn, SQL.newest, (lane.partition_id, lane.group_id)) < 50
    assert pages(conn, SQL.lost_lanes, ()) < 200
    settled = [row[0] for row in found]
    assert pages(conn, SQL.settle, (settled, [])) < 5000
    again = conn.execute(SQL.due, due).fetchall()
    assert len(again) == len(found)
    assert not {row[0] for row in again} & set(settled)
    assert pages(conn, SQL.remove_lost, (lane.partition_id, lane.group_id, 1000)) < 50_000
