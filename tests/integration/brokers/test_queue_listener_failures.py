"""Queue listeners whose handlers fail: retries, the dead-letter exchange, the operator's dead letters."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection

from brokers import BatchListenerFailed, FixedBackOff, idempotent
from brokers.models import DeadLetter, DeadLetterAttempt, MessageAttempt
from brokers.models import Message as MessageRow
from brokers.queues import bindings, claims, declaring, exchanges, topology
from brokers.queues.message import Message, NewMessage
from brokers.queues.sending import send_many
from brokers.record import JSON
from tests.effects import Effects, effects_table
from tests.listening import consuming, until

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE, DEAD = "rebooking", "dead"


class Refused(Exception):
    """What is never tried again."""


@pytest.fixture(autouse=True)
def _queues() -> None:
    exchanges.declare_exchange("dlx", type="fanout")
    declaring.declare_queue(QUEUE, dead_letter_exchange="dlx")
    declaring.declare_queue(DEAD)
    bindings.bind("dlx", queue=DEAD)


@pytest.fixture
def effects() -> Iterator[Effects]:
    with effects_table() as table:
        yield table


def fill(*bodies: Any, queue: str = QUEUE) -> list[int]:
    return [sent.id for sent in send_many("", [{"routing_key": queue, "body": body} for body in bodies])]


def write(name: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("insert into test_effect (name) values (%s)", [str(name)])


def emptied(queue: str = QUEUE) -> None:
    number = topology.queue(queue).id
    until(lambda: not MessageRow.objects.filter(queue_id=number).exists(), what=f"{queue} is empty")


def letters() -> list[tuple[str, str, str, int]]:
    """Source, reason, exception and how many attempts, of each dead letter."""
    return [
        (one.source, one.reason, one.exception_class, DeadLetterAttempt.objects.filter(dead_letter=one).count())
        for one in DeadLetter.objects.order_by("id")
    ]


def dead() -> list[Message]:
    return claims.claim(topology.queue(DEAD), 100, 60_000, "test")


# -- retries ------------------------------------------------------------------------------------------------------


def test_a_message_that_failed_is_tried_again_and_holds_up_no_other(effects: Effects) -> None:
    fill("bad", "good", "better")
    calls: list[tuple[object, int, int, float]] = []

    def handle(message: Message) -> None:
        calls.append((message.body, message.attempt, message.delivery_count, time.monotonic()))
        write(message.body)
        if message.body == "bad" and message.attempt < 3:
            raise ValueError(message.attempt)

    with consuming(handle, QUEUE, retry=FixedBackOff(400, 3)):
        until(lambda: MessageAttempt.objects.count() == 1)
        assert [(row.number, row.exception_class, row.delay_ms) for row in MessageAttempt.objects.all()] == [
            (1, "builtins.ValueError", 400)
        ]
        emptied()
    assert [call[:3] for call in calls] == [
        ("bad", 1, 1),
        ("good", 1, 1),
        ("better", 1, 1),
        ("bad", 2, 2),
        ("bad", 3, 3),
    ]
    assert calls[3][3] - calls[0][3] > 0.39
    assert calls[4][3] - calls[3][3] > 0.39
    assert effects.names() == ["good", "better", "bad"]
    assert MessageAttempt.objects.count() == 0
    assert letters() == []


def test_a_back_off_outlasts_the_worker() -> None:
    fill("x")
    calls: list[tuple[int, float]] = []

    def handle(message: Message) -> None:
        calls.append((message.attempt, time.monotonic()))
        if message.attempt == 1:
            raise ValueError

    with consuming(handle, QUEUE, retry=FixedBackOff(1000, 1)):
        until(lambda: MessageAttempt.objects.count() == 1)
    with consuming(handle, QUEUE, retry=FixedBackOff(1000, 1)):
        emptied()
    assert [attempt for attempt, _ in calls] == [1, 2]
    assert calls[1][1] - calls[0][1] > 0.99


def test_conflicts_with_other_transactions_are_no_fault_of_the_message() -> None:
    fill("x")
    calls: list[int] = []

    def handle(message: Message) -> None:
        calls.append(message.delivery_count)
        if len(calls) < 3:
            with connection.cursor() as cursor:
                cursor.execute("do $$ begin raise exception 'in the way' using errcode = '40P01'; end $$")

    with consuming(handle, QUEUE, not_retryable=(OperationalError,)):
        emptied()
    assert calls == [1, 1, 1]
    assert letters() == []


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_is_no_exception_is_a_failure_too(kind: type[BaseException]) -> None:
    fill(1, 2)
    handled: list[object] = []

    def handle(message: Message) -> None:
        if message.body == 1:
            raise kind
        handled.append(message.body)

    with consuming(handle, QUEUE, retry=FixedBackOff(0, 1)):
        emptied()
    assert handled == [2]
    assert [(reason, attempts) for _, reason, _, attempts in letters()] == [("attempts_exhausted", 2)]


# -- giving up ----------------------------------------------------------------------------------------------------


def test_what_is_not_retryable_is_dead_lettered_at_once_as_rejected(effects: Effects) -> None:
    [number, _] = fill("bad", "good")

    def handle(message: Message) -> None:
        write(message.body)
        if message.body == "bad":
            raise Refused("never")

    with consuming(handle, QUEUE, not_retryable=(Refused,)):
        emptied()
    [message] = dead()
    [death] = message.headers["x-death"]
    assert (message.body, message.exchange) == ("bad", "dlx")
    assert (death["reason"], death["queue"], death["count"], death["routing-keys"]) == ("rejected", QUEUE, 1, [QUEUE])
    assert message.headers["x-first-death-reason"] == "rejected"
    assert letters() == [(QUEUE, "exception", f"{__name__}.Refused", 1)]
    assert DeadLetter.objects.get().source_kind == "queue"
    assert effects.names() == ["good"]
    assert number > 0


def test_what_has_used_up_its_retries_is_dead_lettered_with_its_attempts() -> None:
    fill("bad")

    def handle(message: Message) -> None:
        raise ValueError(f"attempt {message.attempt}")

    with consuming(handle, QUEUE, retry=FixedBackOff(0, 2)):
        emptied()
    assert letters() == [(QUEUE, "attempts_exhausted", "builtins.ValueError", 3)]
    assert DeadLetter.objects.get().error == "attempt 3"
    assert len(dead()) == 1
    assert MessageAttempt.objects.count() == 0


def test_without_a_dead_letter_exchange_there_is_still_the_dead_letter() -> None:
    declaring.declare_queue("plain", dead_letters="none")
    fill("bad", queue="plain")

    def handle(message: Message) -> None:
        raise Refused

    with consuming(handle, "plain", not_retryable=Refused):
        emptied("plain")
    assert letters() == [("plain", "exception", f"{__name__}.Refused", 1)]


def test_a_body_that_cannot_be_read_is_given_up_without_a_call() -> None:
    send_many("", [NewMessage(b"1", JSON, QUEUE), NewMessage(b"{", JSON, QUEUE), NewMessage(b"3", JSON, QUEUE)])
    handled: list[object] = []
    with consuming(lambda message: handled.append(message.body), QUEUE):
        emptied()
    assert handled == [1, 3]
    assert [(reason, attempts) for _, reason, _, attempts in letters()] == [("undecodable", 0)]
    assert [message.body_bytes for message in dead()] == [b"{"]


def test_no_message_fails_more_often_than_its_queue_allows() -> None:
    declaring.declare_queue("limited", delivery_limit=2, dead_letter_exchange="dlx")
    fill("bad", queue="limited")
    calls: list[int] = []

    def handle(message: Message) -> None:
        calls.append(message.delivery_count)
        raise ValueError

    with consuming(handle, "limited"):
        emptied("limited")
    assert calls == [1, 2, 3]
    [message] = dead()
    assert message.headers["x-death"][0]["reason"] == "delivery_limit"
    assert letters() == []


def test_the_delivery_limit_leaves_a_dead_letter_where_the_message_would_be_lost() -> None:
    declaring.declare_queue("limited", delivery_limit=1)
    fill("bad", queue="limited")

    def handle(message: Message) -> None:
        raise ValueError

    with consuming(handle, "limited"):
        emptied("limited")
    assert letters() == [("limited", "delivery_limit", "builtins.ValueError", 2)]


def test_an_idempotent_handler_that_gives_up_leaves_its_key() -> None:
    fill("bad")

    @idempotent(key=lambda message: message.body)
    def handle(message: Message) -> None:
        raise Refused

    with consuming(handle, QUEUE, not_retryable=Refused):
        emptied()
    assert DeadLetter.objects.get().idempotency_key == "bad"


# -- batches ------------------------------------------------------------------------------------------------------


def test_a_batch_handler_says_which_message_failed(effects: Effects) -> None:
    fill(*range(6))

    def handle(messages: list[Message]) -> None:
        for message in messages:
            write(message.body)
            if message.body == 3:
                raise BatchListenerFailed(message) from Refused("three")

    with consuming(handle, QUEUE, batch=True, not_retryable=(Refused,)):
        emptied()
    assert effects.names() == ["0", "1", "2", "4", "5"]
    assert letters() == [(QUEUE, "exception", f"{__name__}.Refused", 1)]
    assert [message.body for message in dead()] == [3]


def test_messages_of_a_batch_that_failed_as_a_whole_are_each_tried_again(effects: Effects) -> None:
    fill(*range(5))
    calls: list[list[object]] = []

    def handle(messages: list[Message]) -> None:
        calls.append([message.body for message in messages])
        for message in messages:
            write(message.body)
        if len(calls) < 3:
            raise ValueError

    with consuming(handle, QUEUE, batch=True, retry=FixedBackOff(0, 3)):
        emptied()
    assert calls == [[0, 1, 2, 3, 4]] * 3
    assert effects.names() == ["0", "1", "2", "3", "4"]
    assert MessageAttempt.objects.count() == 0
