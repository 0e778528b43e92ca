"""Processing once: one effect for each key and consumer, whoever comes at the same time and whatever is rolled back."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from asgiref.sync import async_to_sync
from django.conf import LazySettings
from django.db import connection, connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokers import idempotent, process_once, processed
from brokers.errors import InvalidValue
from brokers.models import ProcessedMessage
from brokers.processed import (
    ConsumerRequired,
    TransactionRequired,
    aprocess_once,
    claim,
    current_consumer,
    key_text,
    release,
    to_handle,
)

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def beside(function: Callable[[], object]) -> Iterator[threading.Thread]:
    """Runs a function in a thread with a database connection of its own; raises here what it raised there."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # handed to the test's own thread
            errors.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def somebody_waits() -> None:
    """Returns once another backend waits for this one's transaction to end."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(
                "select count(*) from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid))"
            )
            if cursor.fetchone()[0]:
                return
        time.sleep(0.01)
    raise AssertionError("nobody waited")


def keys_of(consumer: str) -> set[str]:
    return set(ProcessedMessage.objects.filter(consumer=consumer).values_list("message_key", flat=True))


# -- process_once -------------------------------------------------------------------------------------------------


def test_a_key_is_new_once_for_each_consumer() -> None:
    for expected in (True, False):
        with transaction.atomic():
            assert process_once("b-1", "billing") is expected
            assert process_once("b-1", "mailing") is expected
            assert process_once("b-1", "billing") is False, "within one transaction too"


def test_it_refuses_to_work_without_a_transaction() -> None:
    for call in (
        lambda: process_once("b-1", "billing"),
        lambda: claim("billing", ["b-1"]),
        lambda: release("billing", ["b-1"]),
    ):
        with pytest.raises(TransactionRequired, match=r"with transaction\.atomic\(\):"):
            call()
    assert not ProcessedMessage.objects.exists()


def test_the_consumer_is_the_group_being_handled_unless_given() -> None:
    with transaction.atomic(), pytest.raises(ConsumerRequired, match="consumer='billing'"):
        process_once("b-1")
    mark = current_consumer.set("delays")
    try:
        with transaction.atomic():
            assert process_once("b-1")
            assert process_once("b-1", "billing")
    finally:
        current_consumer.reset(mark)
    assert keys_of("delays") == keys_of("billing") == {"b-1"}


def test_a_rollback_forgets_the_key_with_the_effects() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        assert process_once("b-1", "billing")
        1 / 0  # noqa: B018
    with transaction.atomic():
        assert process_once("b-1", "billing")


def test_the_second_of_two_at_once_waits_and_then_skips() -> None:
    effects: list[str] = []
    answers: list[bool] = []

    def second() -> None:
        with transaction.atomic():
            answers.append(process_once("b-1", "billing"))
            if answers[0]:
                effects.append("second")

    with ExitStack() as stack, transaction.atomic():
        assert process_once("b-1", "billing")
        effects.append("first")
        stack.enter_context(beside(second))
        somebody_waits()
        assert answers == []
    assert (answers, effects) == ([False], ["first"])


def test_the_second_of_two_at_once_goes_on_when_the_first_is_rolled_back() -> None:
    answers: list[bool] = []

    def second() -> None:
        with transaction.atomic():
            answers.append(process_once("b-1", "billing"))

    with ExitStack() as stack, transaction.atomic():
        assert process_once("b-1", "billing")
        stack.enter_context(beside(second))
        somebody_waits()
        transaction.set_rollback(True)
    assert answers == [True]
    assert keys_of("billing") == {"b-1"}


def test_asynchronous_code_uses_the_transaction_of_the_thread_that_called_it() -> None:
    async def work() -> list[bool]:
        return [await aprocess_once("b-1", "billing"), await aprocess_once("b-1", "billing")]

    with transaction.atomic():
        assert async_to_sync(work)() == [True, False]
        transaction.set_rollback(True)
    assert keys_of("billing") == set()


# -- keys ---------------------------------------------------------------------------------------------------------


def test_numbers_and_uuids_are_keys_as_text() -> None:
    one = uuid.uuid4()
    assert (key_text(7), key_text(one), key_text("7"), key_text("Ж" * 1024)) == ("7", str(one), "7", "Ж" * 1024)


@pytest.mark.parametrize("key", [None, True, 1.5, b"x", "", "x" * 1025, "a\0b", "\ud800", ("a", "b")])
def test_what_is_no_key_is_refused(key: object) -> None:
    with transaction.atomic(), pytest.raises(InvalidValue, match="idempotency key"):
        process_once(key, "billing")


@pytest.mark.parametrize("consumer", ["", "x" * 250, "a\0b"])
def test_a_consumer_without_a_proper_name_is_refused(consumer: str) -> None:
    with transaction.atomic(), pytest.raises(InvalidValue, match="consumer's name"):
        process_once("k", consumer)
    with pytest.raises(InvalidValue, match="consumer's name"):
        idempotent(key=lambda: "k", consumer=consumer)


# -- @idempotent --------------------------------------------------------------------------------------------------


def test_a_function_runs_once_for_each_key() -> None:
    calls: list[tuple[str, int]] = []

    @idempotent(key=lambda booking, amount: booking, consumer="billing")
    def charge(booking: str, amount: int) -> int:
        """Charges."""
        calls.append((booking, amount))
        return amount

    answers = []
    for booking, amount in (("a", 1), ("a", 2), ("b", 3)):
        with transaction.atomic():
            answers.append(charge(booking, amount))
    assert answers == [1, None, 3]
    assert calls == [("a", 1), ("b", 3)]
    assert (charge.__name__, charge.__doc__) == ("charge", "Charges.")


def test_a_function_that_fails_may_run_again() -> None:
    calls: list[str] = []

    @idempotent(key=lambda booking: booking, consumer="billing")
    def charge(booking: str) -> str:
        calls.append(booking)
        if len(calls) == 1:
            raise ValueError
        return "charged"

    with pytest.raises(ValueError), transaction.atomic():
        charge("a")
    with transaction.atomic():
        assert charge("a") == "charged"
    assert calls == ["a", "a"]


def test_asynchronous_functions_run_once_too() -> None:
    calls: list[str] = []

    @idempotent(key=lambda booking: booking, consumer="billing")
    async def charge(booking: str) -> str:
        calls.append(booking)
        await asyncio.sleep(0)
        return "charged"

    with transaction.atomic():
        assert [async_to_sync(charge)("a"), async_to_sync(charge)("a")] == ["charged", None]
    assert calls == ["a"]


def test_a_listener_finds_key_consumer_and_bare_handler() -> None:
    def handler(record: str) -> None: ...

    def key(record: str) -> str:
        return record

    wrapped: object = idempotent(key=key)(handler)
    assert getattr(wrapped, "idempotent_key", None) is key
    assert getattr(wrapped, "idempotent_consumer", "") is None
    assert getattr(wrapped, "handler", None) is handler


# -- claims of a whole poll ---------------------------------------------------------------------------------------


def test_a_claim_answers_what_was_new() -> None:
    with transaction.atomic():
        assert claim("billing", []) == set()
        assert claim("billing", ["b", "a", "b"]) == {"a", "b"}
    with transaction.atomic():
        assert claim("billing", ["a", "c"]) == {"c"}
        assert claim("mailing", ["a"]) == {"a"}


def test_what_was_released_is_new_again() -> None:
    with transaction.atomic():
        keys = ["a", "b", "a", "c"]
        chosen = to_handle(keys, claim("billing", keys))
        assert chosen == [True, True, False, True]
        release("billing", [])
        # The record at 1 failed: what was chosen from there on was not handled.
        release("billing", [keys[at] for at in range(1, 4) if chosen[at]])
    assert keys_of("billing") == {"a"}


def test_claims_in_opposite_order_do_not_deadlock() -> None:
    """Each of two transactions claims the same many keys; without one order they would wait for each other."""
    keys = [f"k{number}" for number in range(400)]
    found: list[set[str]] = []
    together = threading.Barrier(2)

    def worker(mine: list[str]) -> None:
        for turn in range(10):
            together.wait(30)
            with transaction.atomic():
                found.append(claim(f"turn {turn}", mine))

    with beside(lambda: worker(keys)), beside(lambda: worker(keys[::-1])):
        pass
    assert sorted(map(len, found)) == [0] * 10 + [400] * 10


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.lists(st.sampled_from("abcdef"), max_size=8), st.integers(0, 8), st.booleans())))
def test_each_key_is_handled_once_whatever_fails(polls: list[tuple[list[str], int, bool]]) -> None:
    """Against a set: polls with repeated keys, a record of which may fail, and transactions that are rolled back."""
    ProcessedMessage.objects.all().delete()
    handled: set[str] = set()
    for keys, failing, roll_back in polls:
        with transaction.atomic():
            chosen = to_handle(keys, claim("billing", keys))
            done = [key for key, mine in list(zip(keys, chosen, strict=True))[:failing] if mine]
            assert set(done).isdisjoint(handled)
            assert len(done) == len(set(done))
            assert {*done, *handled} >= set(keys[:failing])
            release("billing", [key for key, mine in list(zip(keys, chosen, strict=True))[failing:] if mine])
            transaction.set_rollback(roll_back)
        if not roll_back:
            handled |= set(done)
        assert keys_of("billing") == handled


# -- retention ----------------------------------------------------------------------------------------------------


def age(key: str, days: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "update processed_messages set processed_at = processed_at - %s * interval '1 day' where message_key = %s",
            [days, key],
        )


def test_keys_are_forgotten_after_thirty_days_or_what_the_setting_says(settings: LazySettings) -> None:
    with transaction.atomic():
        claim("billing", ["new", "week", "month"])
    age("week", 8)
    age("month", 31)
    assert processed.purge() == 1
    assert keys_of("billing") == {"new", "week"}
    settings.BROKERS_PROCESSED_DAYS = 7
    assert processed.purge() == 1
    assert keys_of("billing") == {"new"}


def test_forgetting_goes_in_bounded_steps_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processed, "_PURGE_ROWS", 2)
    monkeypatch.setattr(processed, "_PURGE_STATEMENTS", 2)
    keys = [f"k{number}" for number in range(7)]
    with transaction.atomic():
        claim("billing", keys)
    for number, key in enumerate(keys):
        age(key, 40 - number)
    assert processed.purge(lambda: False) == 0
    assert processed.purge() == 4
    assert keys_of("billing") == {"k4", "k5", "k6"}
    assert (processed.purge(), processed.purge()) == (3, 0)
