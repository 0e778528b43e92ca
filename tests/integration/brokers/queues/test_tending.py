"""What queues do by themselves, in bounded steps, found by their indexes and fairly among queues."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction

from brokers import wakeup
from brokers.models import Message as Row
from brokers.models import Queue, QueueCount, Replay, ReplayItem
from brokers.queues import claims, consumers, lengths, sending, tending, topology
from brokers.queues.claims import Claim
from brokers.queues.declaring import declare_queue, delete_queue
from brokers.queues.looks import Looks
from brokers.queues.topology import QueueInfo
from tests.integration.brokers.queues.living import (
    bodies,
    counted,
    figures,
    pass_time,
    put,
    queue,
    take,
    tend,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a look takes, the next one may follow."""
    monkeypatch.setattr(tending, "_SHARE", 1e9)


def many(to: QueueInfo, count: int, **columns: str) -> None:
    """So many messages at once; columns are SQL."""
    names, values = "".join(f", {name}" for name in columns), "".join(f", {value}" for value in columns.values())
    with connection.cursor() as cursor:
        cursor.execute(
            f"insert into brokers_message (queue_id, pos, encoding, envelope, body{names})"
            f" select %s, nextval('brokers_message_pos_seq'), 1, '{{}}', '1'{values} from generate_series(1, %s)",
            [to.id, count],
        )
        cursor.execute("insert into brokers_queue_change (queue_id, arrived) values (%s, %s)", [to.id, count])


def in_threads(count: int, work: Callable[[], Any]) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed


# -- delays and leases --------------------------------------------------------------------------------------------


def test_a_delayed_message_is_ready_when_its_time_has_come_and_waiters_are_woken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    woken: list[int] = []
    monkeypatch.setattr(wakeup, "announce_queues", lambda ids: woken.extend(ids))
    of = queue()
    put(of, "later", delay_ms=60_000)
    put(of, "now")
    tend()
    assert figures(of) == (1, 0, 1)
    woken.clear()
    pass_time(of, "due_at")
    tend()
    assert (figures(of), woken) == ((2, 0, 0), [of.id])
    assert [message.body for message in take(of)] == ["later", "now"]


def test_a_lapsed_message_is_ready_in_its_old_place_and_its_claim_holds_until_the_next() -> None:
    of = queue()
    put(of, "first", "second")
    [message] = take(of, limit=1)
    assert figures(of) == (1, 1, 0)
    tend()
    assert figures(of) == (1, 1, 0)
    pass_time(of, "lease_until")
    tend()
    assert (figures(of), bodies(of)) == ((2, 0, 0), ["first", "second"])
    assert claims.ack(of, [Claim.of(message)])
    assert bodies(of) == ["second"]


def test_a_claim_that_another_has_taken_since_settles_nothing() -> None:
    of = queue()
    put(of, 1)
    [former] = take(of)
    pass_time(of, "lease_until")
    tend()
    [again] = take(of, holder="other")
    assert again.redelivered
    assert claims.ack(of, [Claim.of(former)]) == set()
    assert claims.ack(of, [Claim.of(again)])


# -- expiry -------------------------------------------------------------------------------------------------------


def test_messages_expire_wherever_they_stand_and_the_smaller_ttl_wins() -> None:
    of = queue(message_ttl_ms=3_600_000, dead_letters="none")
    put(of, "long")
    [short] = put(of, "short", expiration_ms=60_000)
    put(of, "longer", expiration_ms=7_200_000)
    rows = Row.objects.filter(queue_id=of.id).order_by("pos")
    left = [(row.expires_at - row.published_at).total_seconds() for row in rows if row.expires_at]
    assert left == pytest.approx([3600, 60, 3600])
    pass_time(of, "expires_at", [row.pk for row in rows if row.pos == short])
    tend()
    assert bodies(of) == ["long", "longer"]


def test_what_has_expired_is_never_handed_out_before_it_is_removed() -> None:
    of = queue()
    put(of, 1, expiration_ms=0)
    assert take(of) == []
    assert counted(of).ready == 1


def test_a_claimed_message_does_not_expire_and_a_requeue_keeps_its_time() -> None:
    of = queue(dead_letters="none")
    put(of, 1, expiration_ms=60_000)
    [message] = take(of)
    expires_at = message.expires_at
    pass_time(of, "expires_at")
    tend()
    assert figures(of) == (0, 1, 0)
    Row.objects.update(expires_at=expires_at)
    claims.requeue(of, [Claim.of(message)])
    assert Row.objects.get().expires_at == expires_at
    pass_time(of, "expires_at")
    tend()
    assert figures(of).total == 0


def test_a_delay_comes_before_the_ttl() -> None:
    of = queue(message_ttl_ms=1000)
    put(of, 1, delay_ms=60_000)
    row = Row.objects.get()
    assert row.due_at is not None
    assert row.expires_at is not None
    assert (row.expires_at - row.due_at).total_seconds() == pytest.approx(1)


# -- length -------------------------------------------------------------------------------------------------------


def test_the_head_is_dropped_when_a_publish_is_through_and_what_is_claimed_does_not_count() -> None:
    dead = queue("dead")
    of = queue(max_length=2, dead_letter_exchange="", dead_letter_routing_key="dead")
    put(of, 1, 2)
    take(of)
    put(of, 3, 4, 5)
    assert (bodies(dead), figures(of)) == ([3], (2, 2, 0))
    assert take(dead)[0].headers["x-death"][0]["reason"] == "maxlen"


def test_the_head_is_what_would_be_handed_out_first() -> None:
    of = queue(max_length=2, max_priority=3, dead_letters="none")
    for body, priority in (("low", 0), ("high", 3), ("lower", 0), ("middle", 2)):
        put(of, body, priority=priority)
    assert bodies(of) == ["low", "lower"]


def test_inside_a_transaction_the_head_is_dropped_at_its_commit() -> None:
    of = queue(max_length=1, dead_letters="none")
    with transaction.atomic():
        put(of, 1, 2, 3)
        assert len(bodies(of)) == 3
    assert bodies(of) == [3]


def test_nothing_at_all_may_wait_in_a_queue_of_length_zero() -> None:
    of = queue(max_length=0, dead_letters="none")
    put(of, 1)
    assert bodies(of) == []


def test_many_publishers_at_once_drop_what_is_too_much_and_no_more() -> None:
    of = queue(max_length=10, dead_letters="none")
    in_threads(4, lambda: [put(of, number) for number in range(15)])
    assert figures(of).ready == 10


def test_what_comes_back_counts_and_a_publisher_that_died_before_it_cut_is_made_up_for() -> None:
    of = queue(max_length=2, dead_letters="none")
    put(of, 1, 2)
    [message] = take(of, limit=1)
    put(of, 3)
    assert figures(of).ready == 2
    claims.requeue(of, [Claim.of(message)])
    tend()
    assert bodies(of) == [2, 3]
    many(of, 500)
    tend()
    assert figures(of).ready == 2


def test_a_queue_that_refuses_more_is_not_cut() -> None:
    of = queue(max_length=1, overflow="reject-publish")
    put(of, 1)
    many(of, 5)
    tend()
    assert tending.enforce_length(of) == 0
    assert figures(of).ready == 6


# -- looking ------------------------------------------------------------------------------------------------------


def test_one_queue_s_backlog_does_not_make_another_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tending, "STEPS", 4)
    past = "clock_timestamp() - interval '1 second'"
    crowded = queue(dead_letters="none")
    many(crowded, 2000, expires_at=past)
    others = [queue(dead_letters="none") for _ in range(3)]
    for each in others:
        many(each, 1, expires_at=past)
    tending.tend()
    assert [figures(each).total for each in others] == [0, 0, 0]
    assert figures(crowded).total == 1900


def test_each_look_begins_with_another_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tending, "STEPS", 1)
    queues = [queue(dead_letters="none") for _ in range(3)]
    for each in queues:
        many(each, 300, expires_at="clock_timestamp() - interval '1 second'")
    for _ in range(3):
        tending.tend()
    assert [figures(each).total for each in queues] == [200, 200, 200]


def test_it_ends_when_the_process_does() -> None:
    of = queue(dead_letters="none")
    many(of, 300, expires_at="clock_timestamp() - interval '1 second'")
    assert tending.tend(keep_going=lambda: False) == 0
    assert figures(of).total == 300


def test_a_queue_that_fails_is_told_and_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = queue(dead_letters="none"), queue(dead_letters="none")
    for each in (bad, good):
        many(each, 1, expires_at="clock_timestamp() - interval '1 second'")
    real = tending.expire

    def expire(of: QueueInfo, since: datetime) -> int:
        if of.id == bad.id:
            with connection.cursor() as cursor:
                cursor.execute("select 1 / 0")
        return real(of, since)

    monkeypatch.setattr(tending, "expire", expire)
    with caplog.at_level(logging.WARNING):
        tending.tend()
    assert (figures(bad).total, figures(good).total) == (1, 0)
    assert "tending a queue failed" in caplog.text


def test_many_large_messages_are_taken_in_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tending, "BYTES_AT_ONCE", 2500)
    of = queue(dead_letters="none")
    put(of, *[b"x" * 1000] * 10, expiration_ms=60_000)
    pass_time(of, "expires_at")
    assert tending.expire(of) == 3
    tend()
    assert figures(of).total == 0


def test_two_processes_that_tend_at_once_do_everything_once() -> None:
    dead = queue("dead")
    of = queue(dead_letter_exchange="", dead_letter_routing_key="dead")
    many(of, 700, expires_at="clock_timestamp() - interval '1 second'")

    def work() -> None:
        while tending.expire(topology.queue(of.name)):
            pass

    in_threads(3, work)
    assert (figures(of).total, figures(dead).ready) == (0, 700)


def test_a_look_begins_where_the_last_one_ended_and_now_and_then_at_the_very_beginning() -> None:
    now = 0.0
    looks: Looks[int] = Looks(beginning=0, seconds=2.0, clock=lambda: now)
    assert looks.begin() == 0
    looks.end(10, took=0.01)
    now = 1.0
    assert looks.begin() == 10
    looks.end(None, took=0.01)
    assert looks.begin() == 10
    looks.end(20, took=0.01)
    now = 2.5
    assert looks.begin() == 0
    looks.end(30, took=10.0)
    now = 100.0
    assert looks.begin() == 30
    now = 203.0
    assert looks.begin() == 0


def test_a_time_that_was_over_before_it_could_be_seen_is_found_all_the_same() -> None:
    of = queue(dead_letters="none")
    put(of, 1)
    tending.tend()
    late = datetime.now(UTC) - timedelta(hours=1)
    Row.objects.filter(queue_id=of.id).update(due_at=late)
    tending.tend()
    assert figures(of).delayed == 1
    tending._looks["due"].clock = lambda: float("inf")
    tending.tend()
    assert figures(of).ready == 1


def test_where_looking_takes_long_it_happens_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tending, "_SHARE", 1e-9)
    of = queue(dead_letters="none")
    tending.tend()
    put(of, 1, expiration_ms=0)
    assert tending.tend() == 0
    tending.forget()
    assert tending.tend() > 0
    assert figures(of).total == 0


# -- the end of queues --------------------------------------------------------------------------------------------


def unused_for(of: QueueInfo, seconds: int) -> None:
    Queue.objects.filter(pk=of.id).update(used_at=datetime.now(UTC) - timedelta(seconds=seconds))


def is_there(of: QueueInfo) -> bool:
    tending.delete_unused()
    return Queue.objects.filter(pk=of.id).exists()


def test_a_queue_that_nobody_uses_is_deleted_and_its_messages_with_it() -> None:
    dead = queue("dead")
    of = queue(expires_ms=60_000, dead_letter_exchange="", dead_letter_routing_key="dead")
    put(of, 1, 2)
    unused_for(of, 59)
    assert is_there(of)
    unused_for(of, 61)
    assert not is_there(of)
    lengths.fold()
    assert tending.remove_deleted() == 2
    assert not Row.objects.exists()
    lengths.fold()
    tending.remove_deleted()
    assert (figures(dead).total, QueueCount.objects.filter(queue_id=of.id).exists()) == (0, False)


def test_declaring_it_again_claims_a_consumer_and_a_claim_under_way_are_use() -> None:
    of = queue(expires_ms=60_000)
    unused_for(of, 61)
    declare_queue(of.name, expires_ms=60_000)
    assert is_there(of)
    unused_for(of, 61)
    consumers.register(of, "c", "rest")
    assert is_there(of)
    consumers.leave(of, "c")
    assert is_there(of)
    unused_for(of, 61)
    put(of, 1)
    [message] = take(of)
    unused_for(of, 61)
    assert is_there(of)
    claims.ack(of, [Claim.of(message)])
    consumers._kept.clear()
    consumers.used(of)
    assert is_there(of)
    unused_for(of, 61)
    assert not is_there(of)


def test_without_a_time_a_queue_stays_for_ever() -> None:
    of = queue()
    unused_for(of, 10**8)
    assert is_there(of)


def test_messages_of_a_deleted_queue_go_in_steps_and_replays_hear_that_they_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tending, "REMOVED_AT_ONCE", 100)
    monkeypatch.setattr(tending, "STEPS", 2)
    of, other = queue(), queue()
    put(other, 1)
    many(of, 250)
    put(of, 1, delay_ms=60_000)
    take(of, limit=10)
    replay = Replay.objects.create(state="running", total=1, selection={}, created_by="user:ann")
    item = ReplayItem.objects.create(replay=replay, position=1, dead_letter_id=1, revision=1, outcome="waiting")
    Row.objects.filter(pk=Row.objects.filter(queue_id=of.id).earliest("pk").pk).update(replay_item_id=item.pk)
    delete_queue(of.name)
    lengths.fold()
    assert tending.remove_deleted() == 200
    assert tending.remove_deleted() == 51
    assert bodies(other) == [1]
    item.refresh_from_db()
    assert (item.outcome, item.why) == ("skipped", "gone")
    lengths.fold()
    tending.remove_deleted()
    assert not QueueCount.objects.filter(queue_id=of.id).exists()


def test_what_a_publisher_stores_while_its_queue_is_deleted_goes_too() -> None:
    of = queue()
    put(of, 1)
    delete_queue(of.name)
    lengths.fold()
    tending.remove_deleted()
    lengths.fold()
    tending.remove_deleted()
    many(of, 1)
    lengths.fold()
    assert tending.remove_deleted() == 1


def test_a_message_sent_to_an_exchange_without_queues_is_counted_and_leaves_nothing() -> None:
    sending.send("", "nowhere", 1)
    lengths.fold()
    assert not QueueCount.objects.exists()
