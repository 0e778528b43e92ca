"""What `@topic_listener` takes, and what it refuses before any worker runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from brokers import FixedBackOff, idempotent, topic_listener
from brokers.errors import InvalidName, InvalidValue
from brokers.listeners import registration
from brokers.listeners.registration import BatchListenerFailed, Listener, declared_listeners
from brokers.record import Record


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    before = {one.name for one in declared_listeners()}
    yield
    registration.forget([one.name for one in declared_listeners() if one.name not in before])


def handle(record: Record) -> None:
    """A handler as it should be."""


async def handle_async(record: Record) -> None:
    """Another one."""


def generator(record: Record) -> Iterator[int]:
    yield 1


async def async_generator(record: Record) -> Any:
    yield 1


class CallableObject:
    def __call__(self, record: Record) -> None:
        """An object may handle too."""


class AsyncCallable:
    async def __call__(self, record: Record) -> None:
        """Asynchronously, even."""


class Generating:
    def __call__(self, record: Record) -> Iterator[int]:
        yield 1


def registered(name: str) -> Listener:
    return next(one for one in declared_listeners() if one.name == name)


def test_the_function_stays_as_it_is() -> None:
    assert topic_listener("orders", group="billing")(handle) is handle


def test_what_is_not_said_is_as_documented() -> None:
    topic_listener("orders", group="billing")(handle)
    one = registered(f"{__name__}.handle")
    assert (one.subscription.topics, one.group, one.consumer) == (("orders",), "billing", "billing")
    assert (one.concurrency, one.max_poll_records, one.batch, one.ack_mode) == (1, 100, False, "batch")
    assert (one.max_worker_losses, one.savepoint, one.is_async, one.key) == (3, "lazy", False, None)
    assert one.policy.back_off == FixedBackOff(interval_ms=0, max_retries=9)
    assert one.policy.blocking
    assert (one.subscription.session_timeout_ms, one.subscription.max_poll_interval_ms) == (10_000, 300_000)
    assert one.subscription.auto_offset_reset == "earliest"


@pytest.mark.parametrize("function", [handle_async, AsyncCallable()])
def test_an_asynchronous_handler_is_known_as_one(function: Callable[..., Any]) -> None:
    topic_listener(["a", "b"], group="g", name="n")(function)
    assert registered("n").is_async


def test_of_an_idempotent_handler_the_function_inside_is_called() -> None:
    wrapped = idempotent(key=lambda record: record.key, consumer="ledger")(handle)
    topic_listener("orders", group="billing")(wrapped)
    one = registered(f"{__name__}.handle")
    assert one.function is handle
    assert one.key is not None
    assert one.consumer == "ledger"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (None, "n"),
        ("text", "n"),
        (Record, "n"),
        (generator, None),
        (async_generator, None),
        (Generating(), "n"),
        (CallableObject(), None),
        (lambda: None, "n"),
        (lambda one, two: None, "n"),
        (handle, ""),
        (handle, "x" * 201),
        (handle, "two\nlines"),
        (handle, 7),
    ],
)
def test_what_cannot_be_a_handler_is_refused(function: Any, name: Any) -> None:
    with pytest.raises(InvalidValue):
        topic_listener("orders", group="billing", name=name)(function)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": 65},
        {"concurrency": True},
        {"concurrency": 1.0},
        {"max_poll_records": 0},
        {"max_poll_records": 1001},
        {"max_poll_interval_ms": 5},
        {"session_timeout_ms": 99},
        {"session_timeout_ms": "10000"},
        {"auto_offset_reset": "newest"},
        {"retry": 3},
        {"retry": FixedBackOff},
        {"retryable": (ValueError(),)},
        {"retryable": "ValueError"},
        {"not_retryable": (int,)},
        {"retryable": ValueError, "not_retryable": ValueError},
        {"blocking": 1},
        {"batch": "yes"},
        {"ack_mode": "manual"},
        {"max_worker_losses": 0},
        {"savepoint": "never"},
    ],
    ids=str,
)
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        topic_listener("orders", group="billing", **options)


@pytest.mark.parametrize("topics", [(), "a b", ["fine", "."], 7, [7]])
def test_wrong_topics_are_refused(topics: Any) -> None:
    with pytest.raises((InvalidName, InvalidValue)):
        topic_listener(topics, group="billing")


def test_a_wrong_group_is_refused() -> None:
    with pytest.raises(InvalidName):
        topic_listener("orders", group="a/b")


def test_one_name_has_one_declaration() -> None:
    topic_listener("orders", group="billing")(handle)
    topic_listener("orders", group="billing")(handle)
    with pytest.raises(InvalidValue, match="declared twice"):
        topic_listener("orders", group="shipping")(handle)
    topic_listener("orders", group="shipping", name="another")(handle)


def test_a_single_exception_class_needs_no_tuple() -> None:
    topic_listener("orders", group="billing", not_retryable=ValueError, retryable=[KeyError])(handle)
    policy = registered(f"{__name__}.handle").policy
    assert (policy.not_retryable, policy.retryable) == ((ValueError,), (KeyError,))


def record(offset: int) -> Record:
    return Record(0, None, None, 0, {}, offset, 0, "orders")


def test_a_batch_handler_names_a_record_by_itself_or_by_its_index() -> None:
    records = [record(n) for n in range(3)]
    assert BatchListenerFailed(2).index_in(records) == 2
    assert BatchListenerFailed(records[1]).index_in(records) == 1
    assert BatchListenerFailed(3).index_in(records) is None
    assert BatchListenerFailed(-1).index_in(records) is None
    assert BatchListenerFailed(record(0)).index_in(records) is None
    for wrong in (True, "1", None):
        with pytest.raises(InvalidValue):
            BatchListenerFailed(wrong)  # type: ignore[arg-type]


def test_what_went_wrong_is_the_cause() -> None:
    cause = ValueError("inside")
    assert BatchListenerFailed(0, cause).reason() is cause
    bare = BatchListenerFailed(0)
    assert bare.reason() is bare
    with pytest.raises(BatchListenerFailed) as caught:
        raise BatchListenerFailed(0) from cause
    assert caught.value.reason() is cause
