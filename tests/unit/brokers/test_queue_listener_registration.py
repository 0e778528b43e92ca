"""What `@queue_listener` takes, and what it refuses before any worker runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from brokers import ExponentialBackOff, FixedBackOff, idempotent, queue_listener, topic_listener
from brokers.errors import InvalidName, InvalidValue
from brokers.listeners import handlers
from brokers.listeners.hints import QueueHints
from brokers.listeners.queue_registration import QueueListener, declared_queue_listeners
from brokers.listeners.registration import declared_listeners
from brokers.processed import consumer_of_queue
from brokers.queues.message import Message


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    before = {one.name for one in handlers.declared()}
    yield
    handlers.forget([one.name for one in handlers.declared() if one.name not in before])


def handle(message: Message) -> None:
    """A handler as it should be."""


async def handle_async(message: Message) -> None:
    """Another one."""


def registered(name: str) -> QueueListener:
    return next(one for one in declared_queue_listeners() if one.name == name)


def test_the_function_stays_as_it_is_and_only_queues_have_it() -> None:
    assert queue_listener("rebooking")(handle) is handle
    assert f"{__name__}.handle" not in {one.name for one in declared_listeners()}


def test_what_is_not_said_has_its_default() -> None:
    queue_listener("rebooking", name="x")(handle)
    one = registered("x")
    assert (one.queue, one.prefetch, one.concurrency, one.batch, one.ack_mode) == ("rebooking", 10, 1, False, "batch")
    assert (one.lease_ms, one.max_handling_ms, one.savepoint) == (30_000, 1_800_000, "lazy")
    assert one.policy.back_off == FixedBackOff(0, 9)
    assert one.consumer == one.consumer_name == "queue:rebooking"


def test_what_is_said_is_kept() -> None:
    options: dict[str, Any] = {"prefetch": 50, "concurrency": 3, "batch": True, "lease_ms": 5000, "ack_mode": "record"}
    queue_listener("crew", name="x", retry=ExponentialBackOff(), not_retryable=KeyError, **options)(handle_async)
    one = registered("x")
    assert {name: getattr(one, name) for name in options} == options
    assert one.is_async
    assert one.policy.not_retryable == (KeyError,)


def test_an_idempotent_handler_names_its_keys_and_its_consumer() -> None:
    own = idempotent(key=lambda message: message.body)(handle)
    other = idempotent(key=lambda message: message.body, consumer="billing")(handle)
    queue_listener("rebooking", name="own")(own)
    queue_listener("rebooking", name="other")(other)
    assert (registered("own").consumer, registered("other").consumer) == ("queue:rebooking", "billing")
    assert registered("other").consumer_name == "queue:rebooking"
    assert registered("own").function is handle


def test_the_consumer_of_a_queue_with_a_long_name_is_its_own() -> None:
    first, second = consumer_of_queue("q" * 249), consumer_of_queue("q" * 248 + "x")
    assert first != second
    assert len(first) <= 249


@pytest.mark.parametrize(
    "options",
    [
        {"prefetch": 0},
        {"prefetch": 1001},
        {"prefetch": True},
        {"concurrency": 0},
        {"lease_ms": 99},
        {"lease_ms": 1.5},
        {"max_handling_ms": 0},
        {"ack_mode": "manual"},
        {"batch": 1},
        {"savepoint": "never"},
        {"retry": FixedBackOff},
        {"retryable": (KeyError,), "not_retryable": (KeyError,)},
        {"name": ""},
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        queue_listener("rebooking", **options)(handle)


@pytest.mark.parametrize("queue", ["", "a b", "x" * 250, ".."])
def test_a_queue_has_a_name(queue: str) -> None:
    with pytest.raises(InvalidName):
        queue_listener(queue)


def test_a_name_is_declared_once_among_topics_and_queues() -> None:
    queue_listener("rebooking", name="x")(handle)
    queue_listener("rebooking", name="x")(handle)
    with pytest.raises(InvalidValue, match="declared twice"):
        queue_listener("crew", name="x")(handle)
    with pytest.raises(InvalidValue, match="declared twice"):
        topic_listener("rebooking", group="g", name="x")(handle)


def test_a_consumer_hears_of_its_own_queue_only() -> None:
    heard = QueueHints()
    heard.hear("q", 7)
    heard.watch(7)
    for kind, number in (("q", 8), ("p", 7), ("l", 7)):
        heard.hear(kind, number)
    assert not heard.take()
    heard.hear("q", 7)
    assert (heard.take(), heard.take()) == (True, False)
