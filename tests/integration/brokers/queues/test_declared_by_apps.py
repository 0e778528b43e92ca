"""Exchanges, queues and bindings that applications declare, in any order, and how they are made so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from brokers import binding, exchange, queue
from brokers.declarations import reconcile
from brokers.errors import AccessDenied, ExchangeNotFound, InvalidName, InvalidValue, QueueNotFound, UnknownField
from brokers.models import Binding, Exchange, Queue
from brokers.queues import topology
from brokers.queues.declaring import bind, declare_exchange, declare_queue

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nothing_declared")]


def test_what_is_declared_in_any_order_is_made() -> None:
    binding("flights", queue="rebooking", routing_key="delayed.#")
    binding("flights", to_exchange="all")
    binding("sorted", queue="rebooking", arguments={"x-match": "any", "a": 1})
    assert queue("rebooking", max_priority=5) == "rebooking"
    exchange("all", type="fanout")
    exchange("sorted", type="headers", alternate_exchange="all")
    assert exchange("flights", type="topic") == "flights"
    assert reconcile() == [
        "exchange all created, fanout",
        "exchange flights created, topic",
        "exchange sorted created, headers",
        "queue rebooking created",
        "exchange flights bound to queue rebooking by 'delayed.#'",
        "exchange flights bound to exchange all by ''",
        "exchange sorted bound to queue rebooking by ''",
    ]
    assert [q.name for q in topology.current().route("flights", ["delayed.EWR"])] == ["rebooking"]
    assert [q.name for q in topology.current().route("sorted", [""], {"a": 1})] == ["rebooking"]
    assert topology.queue("rebooking").max_priority == 5
    assert reconcile() == []


def test_what_is_there_and_different_is_left_and_said() -> None:
    declare_exchange("e", type="topic")
    declare_queue("q", max_length=5)
    exchange("e", type="fanout")
    queue("q", max_length=6)
    binding("e", queue="q", routing_key="a.*")
    assert reconcile() == [
        'exchange e is declared differently: type is "topic", not "fanout"; left as it is',
        "queue q is declared differently: max_length is 5, not 6; left as it is",
        "exchange e bound to queue q by 'a.*'",
    ]
    assert Exchange.objects.get().type == "topic"
    assert Queue.objects.get().max_length == 5


def test_what_others_made_is_never_taken_away() -> None:
    declare_exchange("e")
    declare_queue("q")
    bind("e", queue="q", routing_key="by hand")
    queue("q")
    assert reconcile() == []
    assert Binding.objects.count() == 1


def test_a_binding_of_what_nobody_declared_is_an_error() -> None:
    exchange("e")
    binding("e", queue="gone")
    with pytest.raises(QueueNotFound):
        reconcile()
    declare_queue("gone")
    assert reconcile() == ["exchange e bound to queue gone by ''"]
    binding("nowhere", queue="gone")
    with pytest.raises(ExchangeNotFound):
        reconcile()


def test_the_same_declaration_twice_is_one() -> None:
    for _ in range(2):
        exchange("e", type="topic")
        queue("q", max_length=5)
        binding("e", queue="q", routing_key="k", arguments={"a": 1, "b": 2})
    queue("q", max_length=5, delivery_limit=None)
    binding("e", queue="q", routing_key="k", arguments={"b": 2, "a": 1})
    assert len(reconcile()) == 3


@pytest.mark.parametrize(
    ("again", "message"),
    [
        (lambda: exchange("e"), "exchange e is declared twice, and differently"),
        (lambda: exchange("e", type="topic", alternate_exchange="x"), "exchange e is declared twice"),
        (lambda: queue("q"), "queue q is declared twice, and differently"),
    ],
)
def test_another_declaration_of_the_same_name_is_refused(again: Callable[[], str], message: str) -> None:
    exchange("e", type="topic")
    queue("q", max_length=5)
    with pytest.raises(InvalidValue, match=message):
        again()


@pytest.mark.parametrize(
    ("declare", "error"),
    [
        (lambda: exchange("a b"), InvalidName),
        (lambda: exchange(""), AccessDenied),
        (lambda: exchange("e", type="x"), InvalidValue),
        (lambda: queue("a b"), InvalidName),
        (lambda: queue("q", max_priority=256), InvalidValue),
        (lambda: queue("q", durable=True), UnknownField),  # type: ignore[call-arg]
        (lambda: binding("", queue="q"), AccessDenied),
        (lambda: binding("e", queue="a b"), InvalidName),
        (lambda: binding("e", to_exchange="a b"), InvalidName),
        (lambda: binding("e"), InvalidValue),
        (lambda: binding("e", queue="q", to_exchange="f"), InvalidValue),
        (lambda: binding("e", queue="q", routing_key="x" * 256), InvalidValue),
        (lambda: binding("e", queue="q", arguments={"a": float("nan")}), InvalidValue),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(declare: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        declare()
