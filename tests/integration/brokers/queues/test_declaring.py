"""Declaring, binding, pausing and deleting: idempotent, conflicting, audited, and felt by routing at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection, connections, transaction

from brokers import audit
from brokers.errors import (
    AccessDenied,
    BindingNotFound,
    ExchangeNotFound,
    InvalidName,
    InvalidValue,
    PreconditionFailed,
    QueueNotEmpty,
    QueueNotFound,
    ResourceInUse,
)
from brokers.models import AuditEntry, Binding, Exchange, Message, Queue, QueueChange, QueueConsumer, QueueCount
from brokers.queues import topology
from brokers.queues.declaring import (
    bind,
    declare_exchange,
    declare_queue,
    delete_exchange,
    delete_queue,
    pause_queue,
    resume_queue,
    unbind,
)

pytestmark = pytest.mark.django_db(transaction=True)

ACTOR = audit.Actor("ada", "rest")


def reached(exchange: str, key: str, headers: dict[str, Any] | None = None) -> list[str]:
    return [queue.name for queue in topology.current().route(exchange, [key], headers)]


def audited() -> list[tuple[str, str, str]]:
    entries = AuditEntry.objects.order_by("id")
    return [(entry.operation, entry.resource_type, entry.resource) for entry in entries]


def store(queue: str, **fields: Any) -> None:
    """A message as publishing leaves it."""
    found = Queue.objects.get(name=queue)
    Message.objects.create(queue_id=found.id, pos=1, encoding=0, envelope=b"", body=b"", **fields)
    QueueChange.objects.create(queue_id=found.id, arrived=1)


def test_a_message_finds_its_way_as_soon_as_it_is_declared() -> None:
    assert declare_exchange("flights", type="topic") is True
    assert declare_queue("rebooking", max_priority=5) is True
    number, created = bind("flights", queue="rebooking", routing_key="delayed.#")
    assert created is True
    assert reached("flights", "delayed.EWR") == ["rebooking"]
    assert reached("", "rebooking") == ["rebooking"]
    unbind(number)
    assert reached("flights", "delayed.EWR") == []


def test_the_same_declaration_again_changes_nothing() -> None:
    declare_exchange("e", type="headers", alternate_exchange="other")
    declare_queue("q", message_ttl_ms=5, dead_letters="none")
    first = bind("e", queue="q", arguments={"b": 1, "a": 2})
    version = topology.fresh().version
    before = audited()
    assert declare_exchange("e", type="headers", alternate_exchange="other") is False
    assert declare_queue("q", dead_letters="none", message_ttl_ms=5, delivery_limit=20) is False
    assert bind("e", queue="q", arguments={"a": 2, "b": 1}) == (first[0], False)
    assert (topology.fresh().version, audited()) == (version, before)


def test_another_declaration_of_the_same_name_is_refused() -> None:
    declare_exchange("e", type="topic")
    declare_queue("q", message_ttl_ms=5)
    with pytest.raises(PreconditionFailed, match='exchange e is declared differently: type is "topic", not "direct"'):
        declare_exchange("e")
    with pytest.raises(PreconditionFailed, match="alternate_exchange is null"):
        declare_exchange("e", type="topic", alternate_exchange="x")
    for other in ({}, {"message_ttl_ms": 6}, {"message_ttl_ms": 5, "single_active_consumer": True}):
        with pytest.raises(PreconditionFailed):
            declare_queue("q", **other)  # type: ignore[arg-type]
    with pytest.raises(PreconditionFailed):
        declare_queue("q", message_ttl_ms=5, temporary=True)


def test_nothing_is_made_of_what_is_not_valid() -> None:
    for name in ("a b", ".", "x" * 250):
        with pytest.raises(InvalidName):
            declare_queue(name)
        with pytest.raises(InvalidName):
            declare_exchange(name)
    with pytest.raises(InvalidName):
        declare_queue("")
    with pytest.raises(InvalidValue):
        declare_queue("q", max_priority=256)
    with pytest.raises(InvalidValue):
        declare_exchange("e", type="x-delayed")
    assert not Queue.objects.exists()
    assert not Exchange.objects.exists()
    assert topology.fresh().version == 0


def test_the_default_exchange_is_left_alone() -> None:
    declare_queue("q")
    declare_exchange("e")
    for refused in (
        lambda: declare_exchange(""),
        lambda: delete_exchange(""),
        lambda: bind("", queue="q"),
        lambda: bind("e", to_exchange=""),
    ):
        with pytest.raises(AccessDenied, match="operation not permitted on the default exchange"):
            refused()


def test_a_binding_leads_from_what_is_there_to_what_is_there() -> None:
    declare_exchange("t", type="topic")
    declare_exchange("h", type="headers")
    declare_queue("q")
    with pytest.raises(ExchangeNotFound):
        bind("gone", queue="q")
    with pytest.raises(ExchangeNotFound):
        bind("t", to_exchange="gone")
    with pytest.raises(QueueNotFound):
        bind("t", queue="gone")
    with pytest.raises(InvalidValue, match="at most 2"):
        bind("t", queue="q", routing_key="#.#.#")
    with pytest.raises(InvalidValue, match="x-match"):
        bind("h", queue="q", arguments={"x-match": "some"})
    for wrong in ({}, {"queue": "q", "to_exchange": "h"}):
        with pytest.raises(InvalidValue, match="one of queue and to_exchange"):
            bind("t", **wrong)  # type: ignore[arg-type]
    with pytest.raises(BindingNotFound):
        unbind(1)
    with pytest.raises(BindingNotFound):
        unbind(2**70)
    assert not Binding.objects.exists()


def test_bindings_differ_by_key_arguments_and_destination() -> None:
    declare_exchange("a", type="headers")
    declare_exchange("b", type="fanout")
    declare_queue("q")
    declare_queue("b")
    made = [
        bind("a", queue="q"),
        bind("a", queue="q", routing_key="k"),
        bind("a", queue="q", arguments={"x": 1}),
        bind("a", queue="b"),
        bind("a", to_exchange="b"),
        bind("a", to_exchange="a"),
    ]
    assert len({number for number, created in made if created}) == len(made)
    assert bind("a", to_exchange="b") == (made[4][0], False)


def test_deleting_an_exchange_takes_the_bindings_from_it_and_to_it() -> None:
    declare_exchange("a", type="fanout")
    declare_exchange("b", type="fanout")
    declare_exchange("c", type="fanout", alternate_exchange="b")
    declare_queue("q")
    bind("a", to_exchange="b")
    bind("b", queue="q")
    with pytest.raises(ResourceInUse, match="exchange b has 1 bindings"):
        delete_exchange("b", if_unused=True)
    assert reached("a", "x") == reached("c", "x") == ["q"]
    delete_exchange("b")
    assert reached("a", "x") == reached("c", "x") == []
    assert not Binding.objects.exists()
    delete_exchange("a", if_unused=True)
    with pytest.raises(ExchangeNotFound):
        delete_exchange("a")


def test_an_exchange_that_others_only_lead_to_is_unused() -> None:
    declare_exchange("a", type="fanout")
    declare_exchange("b", type="fanout")
    bind("a", to_exchange="b")
    delete_exchange("b", if_unused=True)


def test_deleting_a_queue_says_how_many_messages_went() -> None:
    declare_exchange("e")
    declare_queue("q")
    bind("e", queue="q", routing_key="k")
    store("q")
    store("q")
    QueueCount.objects.create(queue_id=Queue.objects.get().id, messages=40)
    assert delete_queue("q") == 42
    assert reached("e", "k") == []
    with pytest.raises(QueueNotFound):
        topology.queue("q")
    with pytest.raises(QueueNotFound):
        delete_queue("q")


@pytest.mark.parametrize("state", ["", "lease_until", "due_at"])
def test_a_queue_is_not_empty_while_it_holds_anything(state: str) -> None:
    declare_queue("q")
    with connection.cursor() as cursor:
        cursor.execute("select now() + interval '1 day'")
        later = cursor.fetchone()[0]
    store("q", **({state: later} if state else {}))
    with pytest.raises(QueueNotEmpty):
        delete_queue("q", if_empty=True)
    Message.objects.all().delete()
    assert delete_queue("q", if_empty=True) == 1


def test_a_queue_with_consumers_is_in_use_until_they_lapse() -> None:
    declare_queue("q")
    with connection.cursor() as cursor:
        cursor.execute("select now() + interval '1 day', now() - interval '1 second'")
        later, past = cursor.fetchone()
    consumer = QueueConsumer.objects.create(queue=Queue.objects.get(), name="c", kind="rest", lapses_at=later)
    with pytest.raises(ResourceInUse):
        delete_queue("q", if_unused=True)
    QueueConsumer.objects.filter(id=consumer.id).update(lapses_at=past)
    delete_queue("q", if_unused=True)


def test_declaring_a_queue_that_expires_again_is_a_use_of_it() -> None:
    declare_queue("q", expires_ms=1000)
    declare_queue("stays")
    Queue.objects.update(used_at="2020-01-01T00:00:00Z")
    declare_queue("q", expires_ms=1000)
    declare_queue("stays")
    assert Queue.objects.get(name="q").used_at.year > 2020
    assert Queue.objects.get(name="stays").used_at.year == 2020


def test_a_paused_queue_is_known_as_one() -> None:
    declare_queue("q")
    version = topology.fresh().version
    resume_queue("q")
    assert topology.fresh().version == version
    pause_queue("q")
    assert topology.queue("q").paused is True
    pause_queue("q")
    resume_queue("q")
    assert topology.queue("q").paused is False
    assert [operation for operation, _, _ in audited()] == ["create", "pause", "resume"]
    with pytest.raises(QueueNotFound):
        pause_queue("gone")


def test_every_change_is_audited_with_who_made_it() -> None:
    declare_exchange("e", actor=ACTOR)
    declare_queue("q", max_length=5, actor=ACTOR)
    number, _ = bind("e", queue="q", routing_key="k", actor=ACTOR)
    unbind(number, actor=ACTOR)
    delete_queue("q", actor=ACTOR)
    delete_exchange("e", actor=ACTOR)
    assert audited() == [
        ("create", "exchange", "e"),
        ("create", "queue", "q"),
        ("bind", "exchange", "e"),
        ("unbind", "exchange", "e"),
        ("delete", "queue", "q"),
        ("delete", "exchange", "e"),
    ]
    entries = list(AuditEntry.objects.order_by("id"))
    assert {(entry.principal, entry.surface) for entry in entries} == {("ada", "rest")}
    assert entries[2].details == entries[3].details == {"queue": "q", "routing_key": "k", "arguments": {}}
    assert entries[1].details["max_length"] == 5


def test_many_that_declare_the_same_at_once_make_it_once() -> None:
    made: list[bool] = []
    start = threading.Barrier(4)

    def declare() -> None:
        try:
            start.wait(10)
            made.append(declare_exchange("e", type="fanout"))
            made.append(declare_queue("q", max_length=5))
            made.append(bind("e", queue="q")[1])
        finally:
            connections.close_all()

    threads = [threading.Thread(target=declare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 12
    assert sum(made) == 3
    assert len(audited()) == 3


def test_what_is_rolled_back_was_never_declared() -> None:
    class Thrown(Exception):
        """Ends the transaction."""

    declare_queue("before")
    known = topology.fresh()
    with pytest.raises(Thrown), transaction.atomic():
        declare_queue("q")
        assert reached("", "q") == ["q"]
        raise Thrown
    assert reached("", "q") == []
    assert topology.fresh() is known
    assert not AuditEntry.objects.filter(resource="q").exists()
