"""What may be declared, and when two declarations are the same."""

from __future__ import annotations

from typing import Any

import pytest

from brokers.errors import InvalidName, InvalidValue, PreconditionFailed, UnknownField
from brokers.queues.arguments import (
    MAX_MS,
    binding_arguments,
    exchange_settings,
    policy_settings,
    queue_settings,
    same_or_refused,
)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"message_ttl_ms": 0},
        {"message_ttl_ms": MAX_MS, "expires_ms": 1, "max_length": 0, "max_priority": 255, "delivery_limit": -1},
        {"dead_letter_exchange": "", "dead_letter_routing_key": "q"},
        {"overflow": "reject-publish", "single_active_consumer": True, "dead_letters": "none"},
        {"overflow": None, "single_active_consumer": None, "dead_letters": None, "max_priority": 0},
    ],
)
def test_what_rabbitmq_takes_is_taken(settings: dict[str, Any]) -> None:
    found = queue_settings(settings)
    assert {name: found[name] for name, value in settings.items() if value is not None} == {
        name: value for name, value in settings.items() if value is not None
    }
    assert found["single_active_consumer"] in (True, False)
    assert found["dead_letters"] in ("unrouted", "none")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("message_ttl_ms", -1),
        ("message_ttl_ms", MAX_MS + 1),
        ("message_ttl_ms", True),
        ("message_ttl_ms", "5"),
        ("message_ttl_ms", 5.0),
        ("expires_ms", 0),
        ("max_length", -1),
        ("max_length", 2**63),
        ("max_priority", 256),
        ("max_priority", -1),
        ("delivery_limit", -2),
        ("overflow", "reject-publish-dlx"),
        ("overflow", ["drop-head"]),
        ("dead_letters", "all"),
        ("single_active_consumer", 1),
        ("dead_letter_exchange", "a b"),
        ("dead_letter_exchange", 5),
    ],
)
def test_what_rabbitmq_refuses_is_refused_with_its_place(name: str, value: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        queue_settings({name: value, "max_length": value if name == "max_length" else 5})
    assert [where for where, _ in caught.value.errors] == [f"/{name}"]


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidValue) as caught:
        queue_settings({"max_priority": 300, "expires_ms": 0})
    assert [where for where, _ in caught.value.errors] == ["/max_priority", "/expires_ms"]


def test_a_dead_letter_routing_key_needs_an_exchange() -> None:
    with pytest.raises(InvalidValue, match="needs a dead_letter_exchange"):
        queue_settings({"dead_letter_routing_key": "k"})
    assert policy_settings({"dead_letter_routing_key": "k"})["dead_letter_routing_key"] == "k"


def test_settings_that_there_are_not_are_refused() -> None:
    with pytest.raises(UnknownField, match="a queue has no setting 'durable'"):
        queue_settings({"durable": True})
    with pytest.raises(UnknownField, match="a policy has no setting 'max_priority'"):
        policy_settings({"max_priority": 5})
    with pytest.raises(InvalidValue, match="a policy sets one of"):
        policy_settings({"max_length": None})


def test_an_exchange_has_one_of_four_types() -> None:
    exchange_settings("headers", None)
    exchange_settings("topic", "other")
    with pytest.raises(InvalidValue, match="direct, topic, fanout, headers, not 'x-random'"):
        exchange_settings("x-random", None)
    with pytest.raises(InvalidName):
        exchange_settings("topic", "")


def test_saying_a_default_and_not_saying_it_is_the_same() -> None:
    there = queue_settings({})
    for settings in ({"delivery_limit": 20}, {"overflow": "drop-head"}, {"dead_letters": "unrouted"}):
        same_or_refused("queue", "q", there, queue_settings(settings))
        same_or_refused("queue", "q", queue_settings(settings), there)


def test_a_difference_says_what_is_there_and_what_was_wanted() -> None:
    there, wanted = queue_settings({"max_length": 5, "max_priority": 3}), queue_settings({"max_length": 6})
    with pytest.raises(PreconditionFailed, match="max_length is 5, not 6; max_priority is 3, not null") as caught:
        same_or_refused("queue", "q", there, wanted)
    assert [where for where, _ in caught.value.errors] == ["/max_length", "/max_priority"]


def test_arguments_are_the_same_in_any_order() -> None:
    assert binding_arguments(None) == binding_arguments({}) == "{}"
    assert binding_arguments({"b": 1, "a": {"d": [None], "c": "ü"}}) == '{"a":{"c":"ü","d":[null]},"b":1}'


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "arguments",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": b"x"},
        {"a": {1: 2}},
        {1: 2},
        {"a": "\ud800"},
        {"a": nested(5000)},
        {"a": "x" * 17_000},
        {f"name {number}": 1 for number in range(65)},
        ["a"],
    ],
)
def test_arguments_that_are_no_json_or_too_much_are_refused(arguments: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        binding_arguments(arguments)
    assert caught.value.errors[0][0].startswith("/arguments")
