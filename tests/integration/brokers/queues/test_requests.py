"""Request and reply over temporary queues."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections, transaction

from brokers import arequest, request, send
from brokers.errors import InvalidValue, Unroutable
from brokers.models import Queue
from brokers.queues import claims, declaring, topology
from brokers.queues.claims import Claim
from brokers.queues.topology import QueueInfo
from tests.integration.brokers.queues.living import put, queue
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def doubling() -> Iterator[QueueInfo]:
    """A queue whose consumer answers with twice the body, after an answer that belongs to nothing."""
    of = queue()
    stop = threading.Event()

    def serve() -> None:
        try:
            while not stop.is_set():
                for message in claims.claim(of, 10, 30_000, "server"):
                    assert message.reply_to is not None
                    send("", message.reply_to, "late", correlation_id="of a former request")
                    send("", message.reply_to, message.body * 2, correlation_id=message.correlation_id)
                    claims.ack(of, [Claim.of(message)])
                stop.wait(0.005)
        finally:
            connections.close_all()

    thread = threading.Thread(target=serve)
    thread.start()
    yield of
    stop.set()
    thread.join(10)


def test_a_request_gets_its_own_answer_and_the_queue_for_answers_is_used_again(doubling: QueueInfo) -> None:
    assert request("", doubling.name, 4, 20).body == 8
    assert request("", doubling.name, 5, 20, correlation_id="mine", type="number").correlation_id == "mine"
    assert Queue.objects.filter(temporary=True).count() == 1


def test_many_ask_at_once_and_each_gets_its_own_answer(doubling: QueueInfo) -> None:
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        try:
            answers[number] = request("", doubling.name, number, 20).body
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == {number: 2 * number for number in range(4)}


async def test_asynchronous_code_asks_likewise(doubling: QueueInfo) -> None:
    answers = await asyncio.gather(*(arequest("", doubling.name, number, 20) for number in range(3)))
    assert [answer.body for answer in answers] == [0, 2, 4]


def test_without_an_answer_the_request_ends_in_time_and_expires() -> None:
    of = queue()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        request("", of.name, 1, 0.3)
    assert 0.29 < time.monotonic() - started < 5
    [asked] = claims.peek(of)
    assert asked.expires_at is not None
    assert 0.29 < (asked.expires_at - asked.published_at).total_seconds() < 0.31


def test_a_queue_for_answers_that_has_gone_is_made_anew(doubling: QueueInfo) -> None:
    request("", doubling.name, 1, 20)
    declaring.delete_queue(Queue.objects.get(temporary=True).name)
    assert request("", doubling.name, 2, 20).body == 4


def test_nobody_to_ask_is_an_error_at_once() -> None:
    with pytest.raises(Unroutable):
        request("", unique("queue"), 1, 20)


def test_inside_a_transaction_nobody_would_see_the_request() -> None:
    of = queue()
    with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
        request("", of.name, 1, 20)
    assert claims.peek(topology.queue(of.name)) == []


@pytest.mark.parametrize(
    "timeout", [0, -1, float("nan"), float("inf"), "5", None, 10**400], ids=lambda timeout: str(timeout)[:9]
)
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    of = queue()
    put(of)
    with pytest.raises(InvalidValue):
        request("", of.name, 1, timeout)
