"""`Executor`, `@background` and the registry: what is declared, what a call sees and answers, and how all ends."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from brokers.database import in_handler
from brokers.errors import InvalidName, InvalidType
from scheduling import Executor, background
from scheduling.errors import ExecutorNotFound, ExecutorStopped, InvalidExecutor, TaskRejected
from scheduling.executors import inheritance, registry
from scheduling.executors.care import NoCare
from tests.unit.scheduling.executor_pools import DEADLINE, Gated


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Executors of a test are its own, use no database, and are gone after it."""
    monkeypatch.setattr(registry, "_definitions", {})
    monkeypatch.setattr(registry, "_pools", {})
    monkeypatch.setattr(registry, "_failure_handler", None)
    monkeypatch.setattr(registry, "ConnectionCare", NoCare)
    yield
    registry.shutdown(DEADLINE)


def test_a_call_answers_a_future() -> None:
    Executor("emails", core=1)

    @background(executor="emails")
    def double(number: int, *, times: int = 2) -> tuple[int, str]:
        """Doubles."""
        return number * times, threading.current_thread().name

    future = double(4, times=3)
    assert isinstance(future, Future)
    assert future.result(DEADLINE) == (12, "emails-1")
    assert double.__wrapped__(4)[0] == 8
    assert (double.__name__, double.__doc__) == ("double", "Doubles.")


def test_without_arguments_the_default_executor_is_used() -> None:
    @background
    def where() -> str:
        return threading.current_thread().name

    @background()
    def where_too() -> str:
        return threading.current_thread().name

    assert where().result(DEADLINE).startswith("background-")
    assert where_too().result(DEADLINE).startswith("background-")


def test_the_default_executor_may_be_declared() -> None:
    Executor("default", core=1, thread_name_prefix="own-")

    @background
    def where() -> str:
        return threading.current_thread().name

    assert where().result(DEADLINE) == "own-1"


def test_an_executor_may_be_declared_after_the_function() -> None:
    @background(executor="later")
    def where() -> str:
        return threading.current_thread().name

    with pytest.raises(ExecutorNotFound, match="no executor is named 'later'; declare it"):
        where()
    Executor("later")
    assert where().result(DEADLINE) == "later-1"


def test_methods_and_coroutine_functions_run_in_the_background() -> None:
    class Mailer:
        sender = "a@example.org"

        @background
        def send(self, address: str) -> str:
            return f"{self.sender} to {address}"

    @background
    async def fetch(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    assert Mailer().send("b@example.org").result(DEADLINE) == "a@example.org to b@example.org"
    assert fetch(1).result(DEADLINE) == 2


async def test_asynchronous_code_awaits_room_and_then_the_answer() -> None:
    executor = Executor("narrow", core=1, queue_capacity=0)
    gated = Gated()

    @background(executor="narrow")
    def double(number: int) -> int:
        return 2 * number

    first = executor.submit(gated)
    with pytest.raises(TaskRejected):
        double(1)
    asked = asyncio.ensure_future(double.asubmit(4))
    await asyncio.sleep(0)
    assert not asked.done()
    gated.let_go()
    answer = await asked
    assert await answer == 8
    assert await asyncio.wrap_future(first) == "narrow-1"
    assert await (await executor.asubmit(pow, 2, 5)) == 32


def test_a_failure_is_logged_and_is_the_futures(caplog: pytest.LogCaptureFixture) -> None:
    @background
    def fail() -> None:
        raise KeyError("missing")

    with caplog.at_level(logging.ERROR, "waystation.executors"):
        assert isinstance(fail().exception(DEADLINE), KeyError)
    (record,) = caplog.records
    assert record.getMessage() == "a background task failed"
    assert record.__dict__["task"].endswith("fail")
    assert record.exc_info is not None


def test_failures_go_to_the_handler_with_function_and_arguments() -> None:
    seen: list[Any] = []
    registry.on_failure(lambda error, function, args, kwargs: seen.append((error, function, args, kwargs)))

    @background
    def fail(number: int, *, word: str) -> None:
        raise KeyError(word)

    error = fail(3, word="x").exception(DEADLINE)
    assert seen == [(error, fail.__wrapped__, (3,), {"word": "x"})]


def test_a_handler_that_fails_is_logged_and_the_task_still_ends(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("broken handler")

    registry.on_failure(broken)
    with caplog.at_level(logging.ERROR, "waystation.executors"):
        assert isinstance(Executor("one").submit(int, "x").exception(DEADLINE), ValueError)
    assert [record.getMessage() for record in caplog.records] == [
        "the handler of failed background tasks failed",
        "a background task failed",
    ]


def test_a_task_sees_the_callers_context_without_its_requests_part() -> None:
    trace: ContextVar[str] = ContextVar("trace")
    session: ContextVar[str] = ContextVar("session")
    inheritance.drop(session)
    trace.set("t-1")
    session.set("s-1")
    token = in_handler.set(True)
    try:
        seen = Executor("one").submit(lambda: (trace.get(), session.get(None), in_handler.get())).result(DEADLINE)
    finally:
        in_handler.reset(token)
    assert seen == ("t-1", None, False)


def test_what_a_task_sets_stays_its_own() -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)
    executor = Executor("one")
    executor.submit(variable.set, 5).result(DEADLINE)
    assert variable.get() == 0
    assert executor.submit(variable.get).result(DEADLINE) == 0


async def test_a_task_has_none_of_the_threads_of_its_callers_event_loop() -> None:
    """Within `sync_to_async` the caller's context says who serves asynchronous code; that ends with the request."""

    def in_thread() -> str:
        from asgiref.sync import async_to_sync

        async def inner() -> str:
            return await sync_to_async(lambda: threading.current_thread().name)()

        return Executor("one").submit(async_to_sync(inner)).result(DEADLINE)

    assert await sync_to_async(in_thread)() == "one-1"


def test_the_same_declaration_twice_is_one_executor_and_another_is_refused() -> None:
    one = Executor("emails", core=2, max=4)
    assert Executor("emails", core=2, max=4).definition is one.definition
    with pytest.raises(InvalidExecutor, match="the executor emails is declared twice, and differently"):
        Executor("emails", core=3, max=4)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"core": 0}, "core of the executor bad is a whole number from 1 to 1000, not 0"),
        ({"core": True}, "core"),
        ({"core": 1.5}, "core"),
        ({"core": 4, "max": 2}, r"max of the executor bad \(2\) is less than its core \(4\)"),
        ({"max": 1001}, "max"),
        ({"queue_capacity": -1}, "queue_capacity"),
        ({"queue_capacity": 10**9}, "queue_capacity"),
        ({"rejection": "explode"}, "one of abort, caller_runs, discard, discard_oldest, not 'explode'"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidExecutor, match=why):
        Executor("bad", **options)


def test_names_and_types_are_checked() -> None:
    with pytest.raises(InvalidName):
        Executor("two words")
    with pytest.raises(InvalidType, match="thread_name_prefix is text"):
        Executor("one", thread_name_prefix=1)  # type: ignore[arg-type]
    with pytest.raises(InvalidType, match="executor is the name of one"):
        background(executor=Executor("one"))  # type: ignore[call-overload]
    with pytest.raises(InvalidType, match="decorates a function"):
        background("one")  # type: ignore[call-overload]


def test_figures_of_all_executors_by_name() -> None:
    emails = Executor("emails", core=1, max=2, queue_capacity=3, rejection="discard")
    emails.submit(int).result(DEADLINE)
    default, own = registry.figures()
    assert (default.name, own.name) == ("default", "emails")
    assert (own.core, own.max, own.queue_capacity, own.rejection) == (1, 2, 3, "discard")
    assert (own.threads, own.active, own.queued, own.completed, own.rejected) == (1, 0, 0, 1, 0)
    assert own == emails.figures()
    assert [definition.name for definition in registry.declared()] == ["default", "emails"]


def test_the_end_of_the_process_drains_all_executors(caplog: pytest.LogCaptureFixture) -> None:
    one, two = Executor("one"), Executor("two")
    gated = Gated()
    futures: list[Future[Any]] = [one.submit(gated), *(two.submit(abs, -number) for number in range(20))]
    gated.wait_begun()
    gated.let_go()
    assert registry.shutdown(DEADLINE) == 0
    assert all(future.done() for future in futures)
    with pytest.raises(ExecutorStopped):
        one.submit(int)
    assert not caplog.records


def test_what_was_not_done_at_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    gated = Gated()
    Executor("one").submit(gated)
    with caplog.at_level(logging.WARNING, "waystation.executors"):
        assert registry.shutdown(0.01) == 1
    gated.let_go()
    assert caplog.records[0].__dict__["tasks"] == 1


def test_an_executor_that_was_forgotten_may_be_declared_anew() -> None:
    Executor("one", core=1).submit(int).result(DEADLINE)
    registry.forget(["one"])
    assert Executor("one", core=2).submit(lambda: 1).result(DEADLINE) == 1


def test_one_executor_can_be_ended_alone() -> None:
    one, two = Executor("one"), Executor("two")
    assert one.shutdown(DEADLINE) == 0
    with pytest.raises(ExecutorStopped):
        one.submit(int)
    assert two.submit(int).result(DEADLINE) == 0
