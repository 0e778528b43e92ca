"""Figures that equal a count of the rows, whatever was folded when, and emptying a queue."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction

from brokers import audit, database
from brokers.errors import QueueNotFound
from brokers.models import (
    AuditEntry,
    Exchange,
    ExchangeMinute,
    QueueChange,
    QueueCount,
    QueueMinute,
    Replay,
    ReplayItem,
)
from brokers.models import Message as Row
from brokers.queues import claims, dead_lettering, lengths, sending
from brokers.queues.claims import Claim
from brokers.queues.declaring import bind, declare_exchange
from tests.integration.brokers.queues.living import bodies, figures, put, queue, take

pytestmark = pytest.mark.django_db(transaction=True)

ANN = audit.Actor("user:ann", "console")


def test_figures_tell_ready_unacknowledged_and_delayed_before_and_after_folding() -> None:
    of = queue()
    put(of, 1, 2, 3, 4)
    put(of, 5, delay_ms=60_000)
    [message] = take(of, limit=1)
    claims.ack(of, [Claim.of(message)])
    take(of, limit=1)
    for _ in range(3):
        found = figures(of)
        assert (found, found.total) == ((2, 1, 1), 4)
        lengths.fold()
    assert not QueueChange.objects.exists()
    assert QueueCount.objects.get().messages == 4


def test_queues_that_hold_nothing_or_are_no_more_have_zeros() -> None:
    of = queue()
    assert lengths.figures([of.id, 2**31 - 1]) == {of.id: (0, 0, 0), 2**31 - 1: (0, 0, 0)}
    assert lengths.figures([]) == {}


def test_asynchronous_code_gets_the_same() -> None:
    of = queue()
    put(of, 1)

    async def ask() -> dict[int, lengths.Figures]:
        try:
            return await lengths.afigures([of.id])
        finally:
            await database.close()

    assert asyncio.run(ask()) == {of.id: (1, 0, 0)}


def test_what_a_transaction_has_not_committed_counts_for_it_alone() -> None:
    of = queue()
    with transaction.atomic():
        put(of, 1)
        assert figures(of).ready == 1
        transaction.set_rollback(True)
    assert figures(of).ready == 0


def test_minutes_tell_what_came_and_left_and_what_reached_no_queue() -> None:
    declare_exchange("flights", type="direct")
    of = queue()
    bind("flights", queue=of.name, routing_key="k")
    sending.send_many("flights", [{"routing_key": key, "body": 1} for key in ("k", "k", "other")])
    claims.ack(of, list(map(Claim.of, take(of, limit=1))))
    lengths.fold()
    [minute] = QueueMinute.objects.all()
    assert (minute.queue_id, minute.arrived, minute.gone) == (of.id, 2, 1)
    [sent] = ExchangeMinute.objects.all()
    assert (sent.exchange_id, sent.published, sent.unrouted) == (Exchange.objects.get().pk, 3, 1)
    sending.send("flights", "k", 1)
    lengths.fold()
    assert QueueMinute.objects.get().arrived == 3


def test_old_minutes_are_forgotten() -> None:
    of = queue()
    put(of, 1)
    lengths.fold()
    QueueMinute.objects.create(
        queue_id=of.id, minute=QueueMinute.objects.get().minute - timedelta(days=8), arrived=1, gone=0
    )
    assert lengths.forget_old_minutes() == 1
    assert QueueMinute.objects.get().arrived == 1


def test_folds_at_once_with_publishers_count_everything_once() -> None:
    of = queue()
    failed: list[BaseException] = []

    def work(publishes: bool) -> None:
        try:
            for number in range(40):
                if publishes:
                    put(of, number)
                else:
                    lengths.fold()
        except BaseException as error:
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(publishes,)) for publishes in (True, True, False, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert figures(of).ready == 80
    lengths._looks.clock = lambda: float("inf")
    lengths.fold()
    assert QueueCount.objects.get().messages == 80


# -- emptying -----------------------------------------------------------------------------------------------------


def test_a_purge_removes_what_nobody_holds_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "PURGED_AT_ONCE", 3)
    dead, other = queue("dead"), queue()
    of = queue(max_priority=2, dead_letter_exchange="", dead_letter_routing_key="dead")
    put(other, 1)
    for priority in (0, 1, 2, 1):
        put(of, *range(4), priority=priority)
    put(of, *range(7), delay_ms=60_000)
    held = take(of, limit=2)
    assert lengths.purge(of, ANN) == 21
    assert (figures(of), figures(dead).total, figures(other).total) == ((0, 2, 0), 0, 1)
    assert len(claims.ack(of, list(map(Claim.of, held)))) == 2
    entry = AuditEntry.objects.get(operation="purge")
    assert (entry.principal, entry.resource, entry.details) == ("user:ann", of.name, {"messages": 21})


def test_a_purge_ends_although_messages_come_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "PURGED_AT_ONCE", 2)
    of = queue()
    put(of, *range(4))
    steps = 0

    def keep_going() -> bool:
        nonlocal steps
        steps += 1
        assert steps < 50
        put(of, "new")
        return True

    assert lengths.purge(of.name, ANN, keep_going) == 4
    assert set(bodies(of)) == {"new"}


def test_a_purge_of_a_queue_that_is_not_there_is_refused() -> None:
    with pytest.raises(QueueNotFound):
        lengths.purge("nowhere", ANN)


def test_a_replay_hears_that_a_message_was_purged() -> None:
    of = queue()
    put(of, 1)
    dead_lettering.reject(of, list(map(Claim.of, take(of))))
    with connection.cursor() as cursor:
        cursor.execute("update brokers_dead_letter set state = 'replaying' returning id")
        letter = cursor.fetchone()[0]
    replay = Replay.objects.create(state="running", total=1, selection={}, created_by="user:ann")
    item = ReplayItem.objects.create(replay=replay, position=1, dead_letter_id=letter, revision=1, outcome="waiting")
    put(of, 1)
    Row.objects.update(dead_letter_id=letter, replay_item_id=item.pk)
    lengths.purge(of, ANN)
    item.refresh_from_db()
    with connection.cursor() as cursor:
        cursor.execute("select state from brokers_dead_letter")
        assert cursor.fetchone() == ("open",)
    assert (item.outcome, item.why) == ("skipped", "gone")
