"""Who consumes a queue, and the one that a single-active queue hands its messages to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from django.db import connection, connections, transaction

from brokers import database, wakeup
from brokers.errors import QueueNotFound
from brokers.models import Queue, QueueConsumer
from brokers.queues import claims, consumers
from brokers.queues.claims import Claim
from brokers.queues.declaring import delete_queue
from brokers.queues.topology import QueueInfo
from tests.integration.brokers.queues.living import bodies, figures, put, queue, take, tend

pytestmark = pytest.mark.django_db(transaction=True)

T = TypeVar("T")


def lapse(of: QueueInfo, *names: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "update brokers_queue_consumer set lapses_at = clock_timestamp() where queue_id = %s and name = any(%s)",
            [of.id, list(names)],
        )


def asynchronously(work: Coroutine[Any, Any, T]) -> T:
    async def run() -> T:
        try:
            return await work
        finally:
            await database.close()

    return asyncio.run(run())


def one_by_one() -> QueueInfo:
    """A queue with a single active consumer, which two want to be."""
    of = queue(single_active_consumer=True, delivery_limit=1)
    assert consumers.register(of, "first", "rest", prefetch=5)
    assert not consumers.register(of, "second", "rest")
    return of


def test_consumers_come_are_renewed_and_go() -> None:
    of = queue()
    assert consumers.register(of, "a", "listener", prefetch=10)
    assert consumers.register(of, "b", "stomp")
    assert consumers.beat(of, "a", lapse_ms=600_000)
    row = QueueConsumer.objects.get(name="a")
    assert (row.kind, row.prefetch) == ("listener", 10)
    assert (row.lapses_at - row.registered_at).total_seconds() > 590
    consumers.leave(of, "a")
    assert not consumers.beat(of, "a")
    assert list(QueueConsumer.objects.values_list("name", flat=True)) == ["b"]
    consumers.leave(of, "never there")


def test_a_renewal_never_shortens_what_was_said_before() -> None:
    of = queue()
    consumers.register(of, "a", "rest", lapse_ms=600_000)
    before = QueueConsumer.objects.get().lapses_at
    consumers.register(of, "a", "rest", lapse_ms=1000)
    consumers.beat(of, "a", lapse_ms=1000)
    assert QueueConsumer.objects.get().lapses_at == before


def test_lapsed_consumers_are_forgotten_and_their_leases_go_on() -> None:
    of = queue()
    consumers.register(of, "a", "rest")
    put(of, 1)
    take(of, holder="a")
    lapse(of, "a")
    tend()
    assert not QueueConsumer.objects.exists()
    assert figures(of).unacknowledged == 1


def test_a_deleted_queue_has_no_consumers() -> None:
    of = queue()
    delete_queue(of.name)
    with pytest.raises(QueueNotFound):
        consumers.register(of, "a", "rest")

    with pytest.raises(QueueNotFound):
        asynchronously(consumers.aregister(of, "a", "rest"))


def test_the_first_one_gets_everything_and_the_others_nothing() -> None:
    of = one_by_one()
    put(of, 1, 2)
    assert consumers.active(of) == "first"
    assert take(of, holder="second") == []
    assert take(of, holder="stranger") == []
    assert [message.body for message in take(of, holder="first")] == [1, 2]


def test_when_it_leaves_the_next_one_in_order_of_registration_takes_over_with_what_it_held() -> None:
    of = one_by_one()
    consumers.register(of, "third", "rest")
    put(of, 1, 2)
    take(of, limit=1, holder="first")
    consumers.leave(of, "second")
    assert figures(of) == (1, 1, 0)
    consumers.leave(of, "first")
    assert (consumers.active(of), figures(of)) == ("third", (2, 0, 0))
    messages = take(of, holder="third")
    assert [(message.body, message.returns) for message in messages] == [(1, 1), (2, 0)]


def test_when_it_is_not_heard_of_in_time_nobody_gets_anything_before_its_messages_are_back() -> None:
    of = one_by_one()
    put(of, 1, 2)
    [held] = take(of, limit=1, holder="first")
    lapse(of, "first")
    assert take(of, holder="second") == []
    assert consumers.register(of, "second", "rest")
    assert figures(of) == (2, 0, 0)
    messages = take(of, holder="second")
    assert [(message.body, message.returns) for message in messages] == [(1, 0), (2, 0)]
    assert claims.ack(of, [Claim.of(held)]) == set()


def test_tending_hands_over_too_and_wakes_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []
    of = one_by_one()
    put(of, 1)
    take(of, holder="first")
    lapse(of, "first")
    monkeypatch.setattr(wakeup, "announce_queues", lambda ids: woken.extend(ids))
    tend()
    assert (consumers.active(of), figures(of).ready, woken) == ("second", 1, [of.id])


def test_one_that_comes_back_too_late_is_the_last_in_order() -> None:
    of = one_by_one()
    lapse(of, "first")
    assert not consumers.register(of, "first", "rest")
    assert consumers.active(of) == "second"


def test_what_failed_too_often_is_not_handed_over() -> None:
    of = one_by_one()
    put(of, 1)
    for _ in range(2):
        consumers.register(of, "again", "rest")
        active = consumers.active(of)
        assert active is not None
        take(of, holder=active)
        lapse(of, active)
        consumers.remove_lapsed(of)
    assert figures(of) == (0, 1, 0)


def test_a_claim_under_way_at_the_handover_is_handed_over_too() -> None:
    of = one_by_one()
    put(of, 1, 2)
    started, failed = threading.Event(), list[BaseException]()

    def hand_over() -> None:
        try:
            started.set()
            consumers.leave(of, "first")
        except BaseException as error:
            failed.append(error)
        finally:
            connections.close_all()

    with transaction.atomic():
        assert len(take(of, holder="first")) == 2
        thread = threading.Thread(target=hand_over)
        thread.start()
        assert started.wait(10)
        wait_until_blocked()
    thread.join(30)
    assert not failed
    assert figures(of) == (2, 0, 0)
    assert [message.body for message in take(of, holder="second")] == [1, 2]


def wait_until_blocked() -> None:
    with connection.cursor() as cursor:
        for _ in range(100_000):
            cursor.execute("select count(*) from pg_locks where not granted")
            if cursor.fetchone()[0]:
                return
    raise AssertionError("nobody waits")


def test_the_asynchronous_forms_do_the_same() -> None:
    of = queue(single_active_consumer=True)

    async def live() -> tuple[bool, bool, bool, str | None, str | None]:
        first = await consumers.aregister(of, "first", "rest")
        second = await consumers.aregister(of, "second", "rest")
        renewed = await consumers.abeat(of, "first")
        before = await consumers.aactive(of)
        await consumers.aleave(of, "first")
        return first, second, renewed, before, await consumers.aactive(of)

    assert asynchronously(live()) == (True, False, True, "first", "second")


def test_the_active_one_lasts_as_long_as_a_lease_that_was_extended() -> None:
    of, other = one_by_one(), queue()
    asynchronously(consumers.akeep_active(other, 600_000))
    asynchronously(consumers.akeep_active(of, 600_000))
    rows = QueueConsumer.objects.order_by("id")
    assert [(row.lapses_at - row.registered_at).total_seconds() > 590 for row in rows] == [True, False]


def test_use_is_kept_where_a_queue_expires_without_and_seldom() -> None:
    of, other = queue(expires_ms=3_600_000), queue()
    with connection.cursor() as cursor:
        cursor.execute("update brokers_queue set used_at = used_at - interval '1 day' returning used_at")
        before = {row[0] for row in cursor.fetchall()}
    consumers.used(other)
    consumers.used(of)
    asynchronously(consumers.aused(of))
    assert Queue.objects.get(pk=other.id).used_at in before
    after = Queue.objects.get(pk=of.id).used_at
    assert after not in before
    consumers.used(of)
    assert Queue.objects.get(pk=of.id).used_at == after
    assert bodies(of) == []
