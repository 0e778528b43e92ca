"""Queue listeners: who is given what, in which transaction, and what ends it."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from brokers import FixedBackOff, apublish, idempotent, process_once, processed, publish, topic_log, topics
from brokers.models import Message as MessageRow
from brokers.models import ProcessedMessage, QueueConsumer
from brokers.queues import claims, declaring, lengths, topology
from brokers.queues.claims import Claim
from brokers.queues.message import Message
from brokers.queues.sending import asend, send, send_many
from tests.effects import Effects, effects_table
from tests.listening import consumer, consuming, serving, until
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE = "rebooking"


@pytest.fixture(autouse=True)
def _queue() -> None:
    declaring.declare_queue(QUEUE, max_priority=9, delivery_limit=-1)


@pytest.fixture
def effects() -> Iterator[Effects]:
    with effects_table() as table:
        yield table


def fill(*bodies: Any, **properties: Any) -> list[int]:
    return [sent.id for sent in send_many("", [{"routing_key": QUEUE, "body": body, **properties} for body in bodies])]


def write(name: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("insert into test_effect (name) values (%s)", [str(name)])


def left(queue: str = QUEUE) -> int:
    """Messages of the queue: ready, delayed or unacknowledged."""
    number = topology.queue(queue).id
    return lengths.figures([number])[number].total


def emptied(queue: str = QUEUE, seconds: float = 20.0) -> None:
    until(lambda: left(queue) == 0, seconds, f"{queue} is empty")


# -- who gets what ------------------------------------------------------------------------------------------------


def test_each_message_is_handled_once_in_order_of_priority_and_age() -> None:
    fill(*range(25))
    fill("urgent", priority=5)
    handled: list[Message] = []
    with consuming(handled.append, QUEUE):
        emptied()
        [late] = fill("late", headers={"n": 1}, correlation_id="c", reply_to="r", content_type="t", type="u")
        emptied()
    assert [message.body for message in handled] == ["urgent", *range(25), "late"]
    last = handled[-1]
    assert (last.id, last.queue, last.exchange, last.routing_key, last.headers) == (late, QUEUE, "", QUEUE, {"n": 1})
    assert (last.correlation_id, last.reply_to, last.content_type, last.type) == ("c", "r", "t", "u")
    assert {(message.attempt, message.delivery_count, message.redelivered) for message in handled} == {(1, 1, False)}


def test_consumers_share_the_messages() -> None:
    fill(*range(200))
    met = threading.Barrier(3, timeout=20)
    by_thread: dict[str, list[object]] = {}

    def handle(message: Message) -> None:
        handled = by_thread.setdefault(threading.current_thread().name, [])
        if not handled:
            met.wait()
        handled.append(message.body)

    with consuming(handle, QUEUE, concurrency=3):
        emptied()
    assert len(by_thread) == 3
    assert sorted(body for bodies in by_thread.values() for body in bodies) == list(range(200))  # type: ignore[type-var]


def test_a_message_wakes_a_consumer_at_once() -> None:
    handled: list[float] = []
    with consuming(lambda message: handled.append(time.monotonic()), QUEUE) as worker:
        until(worker.hears)
        waits = []
        for number in range(5):
            sent_at = time.monotonic()
            fill(number)
            until(lambda: len(handled) == number + 1)  # noqa: B023
            waits.append(handled[-1] - sent_at)
    assert min(waits) < 0.3


def test_a_delayed_message_comes_when_it_is_due() -> None:
    handled: list[float] = []
    with consuming(lambda message: handled.append(time.monotonic()), QUEUE):
        sent_at = time.monotonic()
        fill("x", delay_ms=600)
        emptied()
    assert 0.55 < handled[0] - sent_at < 5


def test_at_most_prefetch_messages_are_claimed_at_a_time() -> None:
    fill(*range(20))
    seen: list[int] = []
    with consuming(
        lambda _: seen.append(MessageRow.objects.filter(lease_until__isnull=False).count()), QUEUE, prefetch=7
    ):
        emptied()
    assert max(seen) == 7


def test_an_asynchronous_handler_is_part_of_the_transaction(effects: Effects) -> None:
    declaring.declare_queue("next")
    topics.create("log", partitions=1)
    fill(1, 2)

    async def handle(message: Message) -> None:
        await asend("", "next", message.body)
        await apublish("log", message.body)
        if message.body == 2 and message.attempt == 1:
            raise ValueError

    with consuming(handle, QUEUE):
        emptied()
    assert left("next") == 2
    assert [record.value for record in topic_log.read(topics.lookup("log"), 0, 0, 10).records] == [1, 2]


def test_a_batch_handler_gets_what_a_claim_has_brought() -> None:
    fill(*range(25))
    sizes: list[int] = []
    with consuming(lambda messages: sizes.append(len(messages)), QUEUE, batch=True, prefetch=10):
        emptied()
    assert sizes == [10, 10, 5]


# -- one transaction ----------------------------------------------------------------------------------------------


def test_effects_messages_and_acknowledgements_are_one_transaction(effects: Effects) -> None:
    declaring.declare_queue("next")
    topics.create("log", partitions=1)
    fill(*range(10))
    after_commit: list[object] = []
    outside: list[int] = []
    looked = threading.Event()

    def handle(message: Message) -> None:
        write(message.body)
        send("", "next", message.body)
        publish("log", message.body)
        transaction.on_commit(lambda: after_commit.append(message.body))
        if message.body == 9:
            assert looked.wait(20)

    with consuming(handle, QUEUE):
        until(lambda: MessageRow.objects.filter(lease_until__isnull=False).count() == 10)
        outside.append(len(effects.names()))
        looked.set()
        emptied()
        until(lambda: len(after_commit) == 10)
    assert outside == [0]
    assert effects.names() == [str(n) for n in range(10)]
    assert left("next") == 10
    assert len(topic_log.read(topics.lookup("log"), 0, 0, 100).records) == 10


def test_one_transaction_for_each_with_ack_mode_record(effects: Effects) -> None:
    fill(*range(5))
    seen: list[int] = []

    def handle(message: Message) -> None:
        write(message.body)
        with connection.cursor() as cursor:
            cursor.execute("select txid_current()")
            seen.append(cursor.fetchone()[0])

    with consuming(handle, QUEUE, ack_mode="record"):
        emptied()
    assert len(set(seen)) == 5


def test_many_messages_with_effects_take_several_transactions_of_bounded_savepoints(effects: Effects) -> None:
    fill(*range(150))
    with consuming(lambda message: write(message.body), QUEUE, prefetch=150):
        emptied()
    assert effects.names() == [str(n) for n in range(150)]


def test_a_transaction_that_only_the_commit_refuses_is_done_message_by_message(effects: Effects) -> None:
    with connection.cursor() as cursor:
        cursor.execute("alter table test_effect add constraint once unique (name) deferrable initially deferred")
    fill("a", "b", "a", "c")
    with consuming(lambda message: write(message.body), QUEUE, not_retryable=(Exception,)):
        emptied()
    assert sorted(effects.names()) == ["a", "b", "c"]


# -- idempotency --------------------------------------------------------------------------------------------------


def test_a_key_is_processed_once_for_the_queue(effects: Effects) -> None:
    fill("a", "b", "a", "c", "b")

    @idempotent(key=lambda message: message.body)
    def handle(message: Message) -> None:
        write(message.body)

    with consuming(handle, QUEUE):
        emptied()
        fill("c", "d")
        emptied()
    assert effects.names() == ["a", "b", "c", "d"]
    assert set(ProcessedMessage.objects.values_list("consumer", flat=True)) == {f"queue:{QUEUE}"}


def test_the_key_of_a_message_that_failed_is_free_again(effects: Effects) -> None:
    fill("a", "b")

    @idempotent(key=lambda message: message.body)
    def handle(message: Message) -> None:
        write(message.body)
        if message.attempt == 1:
            raise ValueError

    with consuming(handle, QUEUE):
        emptied()
    assert sorted(effects.names()) == ["a", "b"]


def test_process_once_processes_for_the_queue(effects: Effects) -> None:
    fill("a", "a")

    def handle(message: Message) -> None:
        if process_once(message.body):
            write(message.body)

    with consuming(handle, QUEUE):
        emptied()
    assert effects.names() == ["a"]
    assert processed.consumer_of_queue(QUEUE) == f"queue:{QUEUE}"


# -- leases -------------------------------------------------------------------------------------------------------


def test_a_lease_is_renewed_while_its_handler_runs(effects: Effects) -> None:
    fill("slow", "next")
    begun: list[object] = []

    def handle(message: Message) -> None:
        begun.append(message.body)
        write(message.body)
        if message.body == "slow":
            until(lambda: time.monotonic() > over, what="three leases")

    over = time.monotonic() + 3
    with consuming(handle, QUEUE, lease_ms=1200, concurrency=2, prefetch=2):
        emptied()
    assert sorted(map(str, begun)) == ["next", "slow"]
    assert sorted(effects.names()) == ["next", "slow"]


def test_messages_that_another_has_by_now_are_left_out_and_the_others_handled(effects: Effects) -> None:
    fill("lost", "mine")
    calls: list[object] = []

    def handle(message: Message) -> None:
        calls.append(message.body)
        write(message.body)
        if message.body == "mine" and calls.count("mine") == 1:
            taken = threading.Thread(target=take_away)
            taken.start()
            taken.join()

    def take_away() -> None:
        queue = topology.queue(QUEUE)
        row = MessageRow.objects.get(holder__isnull=False, pos=first)
        claims.requeue(queue, [Claim(row.pk, row.token)], delay_ms=3_600_000)  # type: ignore[arg-type]
        connection.close()

    first = MessageRow.objects.order_by("pos").values_list("pos", flat=True)[0]
    with consuming(handle, QUEUE):
        until(lambda: left() == 1)
    assert calls == ["lost", "mine", "mine"]
    assert effects.names() == ["mine"]


def test_a_zombie_commits_nothing(effects: Effects, caplog: pytest.LogCaptureFixture) -> None:
    fill("x")
    calls: list[str] = []

    def handle(message: Message) -> None:
        calls.append(threading.current_thread().name)
        write(threading.current_thread().name)
        if len(calls) == 1:  # as if this worker had been stopped until another one had the message
            taken = threading.Thread(target=lapse)
            taken.start()
            taken.join()
            until(lambda: len(calls) == 2)

    def lapse() -> None:
        with connection.cursor() as cursor:
            cursor.execute("update brokers_message set lease_until = null, token = gen_random_uuid()")
        connection.close()

    with caplog.at_level(logging.WARNING, "waystation.listeners"), consuming(handle, QUEUE, concurrency=2):
        emptied()
    assert len(calls) == 2
    assert effects.names() == [calls[1]]
    assert "claim lost: its transaction was rolled back" in [record.message for record in caplog.records]


def test_what_was_not_begun_at_the_stop_is_given_back_and_does_not_count(effects: Effects) -> None:
    fill(*range(10))
    inside = threading.Event()

    def handle(message: Message) -> None:
        write(message.body)
        inside.set()
        assert stopped.wait(20)

    stopped = threading.Event()
    with consuming(handle, QUEUE, joined=False) as worker:
        assert inside.wait(20)
        worker.stop()
        stopped.set()
    assert effects.names() == ["0"]
    rows = list(MessageRow.objects.order_by("pos"))
    assert [(row.lease_until, row.token, row.deliveries - row.returns) for row in rows] == [(None, None, 0)] * 9
    assert QueueConsumer.objects.count() == 0


def test_the_successor_of_a_killed_worker_has_its_messages_at_once() -> None:
    fill("x", "y")
    name = unique("handler")
    claims.claim(topology.queue(QUEUE), 2, 3_600_000, f"{name}#1.1")
    handled: list[Message] = []
    began = time.monotonic()
    with consuming(handled.append, QUEUE, name=name) as worker:
        assert worker.slot == 1
        emptied()
    assert time.monotonic() - began < 10
    assert [(message.body, message.delivery_count, message.attempt) for message in handled] == [
        ("x", 2, 1),
        ("y", 2, 1),
    ]


def test_after_a_lost_worker_its_messages_come_one_at_a_time() -> None:
    fill(*range(5))
    name = unique("handler")
    claims.claim(topology.queue(QUEUE), 3, 3_600_000, f"{name}#1.1")
    sizes: list[int] = []
    with consuming(lambda messages: sizes.append(len(messages)), QUEUE, name=name, batch=True):
        emptied()
    assert sizes == [1, 1, 1, 2]


def test_a_handler_that_hangs_loses_its_messages_and_is_said_to_be_stuck() -> None:
    fill("x")
    hangs, freed = threading.Event(), threading.Event()
    calls: list[int] = []

    def handle(message: Message) -> None:
        calls.append(message.deliveries)
        if message.deliveries == 1:
            hangs.set()
            freed.wait(20)

    with consuming(handle, QUEUE, concurrency=2, lease_ms=600, max_handling_ms=800) as worker:
        assert hangs.wait(20)
        until(lambda: not worker.is_alive())
        emptied()
        freed.set()
        until(worker.is_alive)
    assert calls == [1, 2]


def test_effects_happen_once_while_handlers_fail_and_leases_are_lost(effects: Effects) -> None:
    fill(*range(300))
    chance = random.Random(5)
    over = threading.Event()

    def handle(message: Message) -> None:
        write(message.body)
        if chance.random() < 0.1:
            raise ValueError

    def steal() -> None:
        while not over.is_set():
            with connection.cursor() as cursor:
                cursor.execute(
                    "update brokers_message set lease_until = null, token = null where id in (select id from"
                    " brokers_message where lease_until is not null order by random() limit 1 for update skip locked)"
                )
            over.wait(0.02)
        connection.close()

    thief = threading.Thread(target=steal)
    thief.start()
    try:
        with consuming(handle, QUEUE, concurrency=3, retry=FixedBackOff(1, None)):
            emptied(seconds=60)
    finally:
        over.set()
        thief.join()
    assert sorted(effects.names(), key=int) == [str(n) for n in range(300)]


# -- the queue's own state ----------------------------------------------------------------------------------------


def test_a_queue_that_is_declared_later_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    handled: list[Message] = []
    one = consumer(handled.append, "later")
    with caplog.at_level(logging.WARNING, "waystation.listeners"), serving(one, joined=False):
        until(lambda: any(record.message == "waiting for the queue" for record in caplog.records))
        declaring.declare_queue("later")
        send("", "later", 1)
        until(lambda: len(handled) == 1)
        declaring.delete_queue("later")
        until(lambda: [record.message for record in caplog.records].count("waiting for the queue") == 2)
        declaring.declare_queue("later")
        send("", "later", 2)
        until(lambda: len(handled) == 2)
    assert [record.message for record in caplog.records].count("waiting for the queue") == 2


def test_a_paused_queue_hands_out_nothing_until_it_is_resumed() -> None:
    declaring.pause_queue(QUEUE)
    fill(1, 2)
    handled: list[Message] = []
    with consuming(handled.append, QUEUE):
        until(lambda: QueueConsumer.objects.count() == 1)
        assert not handled
        declaring.resume_queue(QUEUE)
        emptied()
    assert len(handled) == 2


def test_only_the_active_consumer_of_a_single_active_queue_is_given_messages() -> None:
    declaring.declare_queue("single", single_active_consumer=True)
    handled: list[str] = []

    def send_and_wait(count: int) -> None:
        send_many("", [{"routing_key": "single", "body": n} for n in range(count)])
        emptied("single")

    def note(_: Message) -> None:
        handled.append(threading.current_thread().name)

    first, second = consumer(note, "single"), consumer(note, "single", concurrency=2)
    with serving(second):
        with serving(first):
            send_and_wait(20)
        active = set(handled)
        assert len(active) == 1
        handled.clear()
        send_and_wait(20)
    assert len(active) == 1
    assert set(handled) == active
    assert handled[0].startswith(second.name)


def test_when_the_active_consumer_goes_the_next_one_is_active() -> None:
    declaring.declare_queue("single", single_active_consumer=True)
    handled: list[str] = []

    def note(_: Message) -> None:
        handled.append(threading.current_thread().name)

    first, second = consumer(note, "single"), consumer(note, "single")
    with serving(first), serving(second):
        send("", "single", 1)
        emptied("single")
    with serving(second):
        send("", "single", 2)
        emptied("single")
    assert [name.split("#")[0] for name in handled] == [first.name, second.name]
