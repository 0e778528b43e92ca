"""Messages on their way into queues: routed exactly, stored once for each queue, all or none."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from prometheus_client import REGISTRY

from brokers import asend, asend_many, database, send, send_many, wakeup
from brokers.errors import ExchangeNotFound, InvalidValue, QueueFull, Unroutable
from brokers.models import DeadLetter
from brokers.models import Message as Row
from brokers.queues import declaring, sending, topology
from brokers.queues.message import Envelope, NewMessage, encode
from brokers.queues.storing import Copies, store_copies, target
from brokers.record import JSON
from tests.integration.brokers.queues.living import bodies, figures, put, queue, take
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


def exchange(kind: str = "topic", **settings: Any) -> str:
    name = unique("exchange")
    declaring.declare_exchange(name, type=kind, **settings)
    return name


def in_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(work())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == count
    return answers


# -- what arrives -------------------------------------------------------------------------------------------------


def test_a_message_arrives_with_all_that_was_said_of_it() -> None:
    of = queue(max_priority=9)
    sent = send(
        "", of.name, {"n": 1}, headers={"a": [1, None]}, priority=4, message_id="m", correlation_id="c", reply_to="r",
        content_type="application/json", type="order",
    )  # fmt: skip
    assert sent.queues == 1
    [found] = take(of, holder="me")
    assert (found.id, found.queue, found.exchange, found.routing_key) == (sent.id, of.name, "", of.name)
    assert (found.body, found.headers, found.priority) == ({"n": 1}, {"a": [1, None]}, 4)
    assert (found.message_id, found.correlation_id, found.reply_to) == ("m", "c", "r")
    assert (found.content_type, found.type) == ("application/json", "order")
    assert (found.deliveries, found.delivery_count, found.redelivered, found.attempt) == (1, 1, False, 1)
    assert (found.holder, found.queue_id, found.due_at, found.expires_at) == ("me", of.id, None, None)
    assert found.lease_until is not None
    assert 59 < (found.lease_until - found.published_at).total_seconds() < 75


@pytest.mark.parametrize("body", [b"", b"\x00\xff" * 4000, "text", None, 0, [], {"a": "\x00"}, "x" * 100_000])
def test_a_body_comes_back_as_it_was_sent(body: Any) -> None:
    of = queue()
    put(of, body)
    assert take(of)[0].body == body


def test_one_message_has_one_id_in_all_queues_and_each_has_its_own_copy() -> None:
    first, second, other = queue(max_priority=3), queue(message_ttl_ms=60_000), queue()
    name = exchange()
    for to, key in ((first, "a.#"), (second, "*.b"), (first, "a.b"), (other, "c")):
        declaring.bind(name, queue=to.name, routing_key=key)
    given = [{"body": 1, "routing_key": "a.b", "priority": 9}, {"body": 2, "routing_key": "x"}]
    sent = send_many(name, [*given, {"body": 3, "routing_key": "a"}])
    assert [each.queues for each in sent] == [2, 0, 1]
    assert sent[0].id < sent[1].id < sent[2].id
    one, two = take(first)
    assert (one.id, one.body, one.priority) == (sent[0].id, 1, 3)
    assert (two.id, two.body, two.priority) == (sent[2].id, 3, 0)
    [copy] = take(second)
    assert (copy.id, copy.priority) == (sent[0].id, 0)
    assert copy.expires_at is not None
    assert copy.row != one.row
    assert take(other) == []
    assert figures(first).unacknowledged == 2


def test_messages_come_in_the_order_given_also_many() -> None:
    of = queue()
    sent = send_many("", [NewMessage(b"%d" % n, JSON, of.name) for n in range(1000)])
    assert [each.id for each in sent] == sorted({each.id for each in sent})
    assert [message.body for message in take(of, 1000)] == list(range(1000))
    assert send_many("", []) == []


def test_the_smaller_time_to_live_counts_from_the_end_of_the_delay() -> None:
    of = queue(message_ttl_ms=50_000)
    put(of, "own", expiration_ms=20_000)
    put(of, "queue's", expiration_ms=90_000)
    put(of, "none")
    put(of, "delayed", delay_ms=30_000, expiration_ms=20_000)
    lives = {}
    for row in Row.objects.filter(queue_id=of.id):
        assert row.expires_at is not None
        lives[bytes(row.body)] = round((row.expires_at - row.published_at).total_seconds())
        assert (row.due_at is not None) == (row.body == b'"delayed"')
    assert lives == {b'"own"': 20, b'"queue\'s"': 50, b'"none"': 50, b'"delayed"': 50}
    assert figures(of).delayed == 1


def test_a_message_with_no_time_to_live_is_never_handed_out() -> None:
    of = queue()
    put(of, "late", expiration_ms=0)
    put(of, "kept", expiration_ms=60_000)
    assert [message.body for message in take(of)] == ["kept"]


def test_further_routing_keys_come_from_cc_and_bcc_and_bcc_is_hidden() -> None:
    first, second, third = queue(), queue(), queue()
    sent = send("", first.name, 1, headers={"CC": [second.name, first.name], "BCC": [third.name], "a": 1})
    assert sent.queues == 3
    for of in (first, second, third):
        assert take(of)[0].headers == {"CC": [second.name, first.name], "a": 1}


# -- what does not ------------------------------------------------------------------------------------------------


def test_an_exchange_that_is_not_there_is_an_error_and_a_queue_that_is_not_gets_nothing() -> None:
    with pytest.raises(ExchangeNotFound):
        send(unique("exchange"), "k", 1)
    for wrong in (None, 7, ["a"]):
        with pytest.raises(ExchangeNotFound):
            send(wrong, "k", 1)  # type: ignore[arg-type]
    assert send("", unique("queue"), 1).queues == 0


def test_a_mandatory_message_without_a_queue_lets_none_be_stored() -> None:
    of = queue()
    with pytest.raises(Unroutable) as raised:
        send_many("", [{"body": 1, "routing_key": of.name}, {"body": 2, "routing_key": unique("none")}], mandatory=True)
    assert raised.value.errors[0][0] == "/messages/1"
    assert take(of) == []
    assert send("", of.name, 3, mandatory=True).queues == 1


def test_a_wrong_message_lets_none_be_stored() -> None:
    of = queue()
    with pytest.raises(InvalidValue):
        send_many("", [{"body": 1, "routing_key": of.name}, {"body": 1, "priority": -1}])
    assert take(of) == []


def test_what_is_sent_in_a_transaction_is_seen_after_its_commit_and_never_after_a_rollback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    woken: list[int] = []
    monkeypatch.setattr(wakeup, "announce_queues", woken.extend)
    of = queue()
    with transaction.atomic():
        sent = send("", of.name, "committed")
        assert in_threads(1, lambda: take(of)) == [[]]
        assert woken == []
    assert woken == [of.id]
    with pytest.raises(RuntimeError), transaction.atomic():
        send("", of.name, "rolled back")
        raise RuntimeError
    assert woken == [of.id]
    assert [(message.id, message.body) for message in take(of)] == [(sent.id, "committed")]
    assert figures(of).unacknowledged == 1


def test_a_queue_declared_in_the_same_transaction_is_reached() -> None:
    name = unique("queue")
    with transaction.atomic():
        declaring.declare_queue(name)
        assert send("", name, 1).queues == 1
    assert bodies(topology.queue(name)) == [1]


# -- routing that changed meanwhile ---------------------------------------------------------------------------------


def bind_unheard(source: str, to: int) -> None:
    """What another process did whose hint was lost."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into brokers_binding (exchange_id, queue_id, routing_key)"
            " select id, %s, 'k' from brokers_exchange where name = %s",
            [to, source],
        )
        cursor.execute("select brokers_topology_changed()")


def test_messages_are_routed_by_the_topology_of_the_moment_whatever_is_remembered() -> None:
    name, first, second = exchange("direct"), queue(), queue()
    declaring.bind(name, queue=first.name, routing_key="k")
    assert send(name, "k", 1).queues == 1
    bind_unheard(name, second.id)
    assert send(name, "k", 2).queues == 2
    with connection.cursor() as cursor:
        cursor.execute("delete from brokers_binding where queue_id = %s", [first.id])
        cursor.execute("select brokers_topology_changed()")
    assert send(name, "k", 3, mandatory=True).queues == 1
    assert (bodies(first), bodies(second)) == ([1, 2], [2, 3])


def test_a_mandatory_message_reaches_what_was_bound_just_now() -> None:
    name, of = exchange("direct"), queue()
    assert send(name, "k", 1).queues == 0
    bind_unheard(name, of.id)
    assert send(name, "k", 2, mandatory=True).queues == 1


def test_copies_of_another_version_are_not_stored() -> None:
    of = queue()
    copies = [Copies(encode(Envelope()), b"1", JSON, [target(of, None, None)])]
    known = topology.fresh()
    assert store_copies(known.version - 1, copies) is None
    assert store_copies(known.version, [*copies, Copies(b"", b"", JSON, [])]) is not None
    assert bodies(of) == [1]


# -- lengths ------------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_nothing_of_the_call_is_stored() -> None:
    of, other = queue(max_length=3, overflow="reject-publish"), queue()
    name = exchange("fanout")
    for to in (of, other):
        declaring.bind(name, queue=to.name)
    put(of, 1, 2)
    with pytest.raises(QueueFull, match=of.name) as raised:
        send_many(name, [{"body": 3}, {"body": 4}])
    assert raised.value.facts["queue"] == of.name
    assert send(name, "", 3).queues == 2
    with pytest.raises(QueueFull), transaction.atomic():
        send("", of.name, 4)
    assert (bodies(of), bodies(other)) == ([1, 2, 3], [3])
    take(of, 1)
    assert send("", of.name, 4).queues == 1
    assert figures(of) == (3, 1, 0)


def test_a_limit_that_refuses_is_exact_whoever_publishes_at_once() -> None:
    of = queue(max_length=25, overflow="reject-publish")

    def publish() -> int:
        stored = 0
        for n in range(12):
            with contextlib.suppress(QueueFull):
                stored += send("", of.name, n).queues
        return stored

    assert sum(in_threads(4, publish)) == 25
    assert figures(of).ready == 25


def test_a_queue_that_drops_its_head_is_cut_before_send_returns_and_at_a_commit() -> None:
    of = queue(max_length=3)
    send_many("", [{"body": n, "routing_key": of.name} for n in range(5)])
    assert bodies(of) == [2, 3, 4]
    with transaction.atomic():
        put(of, 5, 6)
        assert bodies(of) == [2, 3, 4, 5, 6]
    assert bodies(of) == [4, 5, 6]
    assert set(DeadLetter.objects.values_list("source", "reason")) == {(of.name, "maxlen")}
    assert figures(of).ready == 3


# -- asynchronous code ----------------------------------------------------------------------------------------------


@pytest.fixture
async def pooled() -> AsyncIterator[None]:
    yield
    await database.close()
    await sync_to_async(connections.close_all)()


async def test_asynchronous_code_sends_likewise(pooled: None) -> None:
    def declared() -> tuple[topology.QueueInfo, topology.QueueInfo]:
        try:
            return queue(max_length=2), queue(max_length=1, overflow="reject-publish")
        finally:
            connections.close_all()

    def seen(of: topology.QueueInfo) -> list[Any]:
        try:
            return bodies(of)
        finally:
            connections.close_all()

    of, full = await asyncio.to_thread(declared)
    assert (await asend("", of.name, {"a": 1}, headers={"h": 1})).queues == 1
    assert [each.queues for each in await asend_many("", [{"body": n, "routing_key": of.name} for n in (2, 3)])] == [
        1,
        1,
    ]
    assert await asyncio.to_thread(seen, of) == [2, 3]
    assert await asend_many("", []) == []
    with pytest.raises(Unroutable):
        await asend("", unique("queue"), 1, mandatory=True)
    with pytest.raises(ExchangeNotFound):
        await asend(unique("exchange"), "", 1)
    await asend("", full.name, 1)
    with pytest.raises(QueueFull, match=full.name):
        await asend("", full.name, 2)
    with pytest.raises(InvalidValue):
        await asend("", full.name, 2, priority=1000)


def test_what_was_published_is_counted() -> None:
    def count() -> float:
        return REGISTRY.get_sample_value("waystation_messages_published_total") or 0

    of, before = queue(), count()
    name = exchange("fanout")
    for to in (of, queue()):
        declaring.bind(name, queue=to.name)
    send_many(name, [{"body": 1}, {"body": 2}])
    assert count() - before == 2
    assert sending.Sent(1, 2).queues == 2
