"""The pool: core, queue, maximum, rejection, and what happens at its edges; with real threads, each step known."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError, Future
from contextvars import ContextVar
from typing import Any

import pytest

from scheduling.errors import ExecutorDeadlock, ExecutorStopped, TaskRejected
from scheduling.executors.pool import Pool
from scheduling.executors.task import Task
from tests.unit.scheduling.executor_pools import DEADLINE, Gated, a_pool, submit, task_of


def filled(pool: Pool) -> tuple[list[Gated], list[Future[Any]]]:
    """Fills all threads and the queue of a pool; each task has begun that can."""
    own = pool.definition
    tasks = [Gated() for _ in range(own.max + own.queue_capacity)]
    futures = [submit(pool, task) for task in tasks]
    for task in tasks[: own.core] + tasks[own.core + own.queue_capacity :]:
        task.wait_begun()
    return tasks, futures


def ended(tasks: list[Gated], futures: list[Future[Any]]) -> list[str]:
    """Lets all go; the names of their threads."""
    for task in tasks:
        task.let_go()
    return [future.result(DEADLINE) for future in futures]


def wait_until(condition: Any) -> None:
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.002)


def test_seven_tasks_for_two_to_four_threads_and_a_queue_of_two() -> None:
    pool = a_pool(core=2, max=4, queue=2)
    tasks, futures = filled(pool)
    assert [task.began.is_set() for task in tasks] == [True, True, False, False, True, True]
    with pytest.raises(TaskRejected, match="tested is full: 4 threads are busy and 2 tasks wait"):
        submit(pool, Gated())
    figures = pool.figures()
    assert (figures.active, figures.queued, figures.threads, figures.rejected) == (4, 2, 4, 1)
    names = ended(tasks, futures)
    assert set(names) == {"tested-1", "tested-2", "tested-3", "tested-4"}
    figures = pool.figures()
    assert (figures.active, figures.queued, figures.completed, figures.failed) == (0, 0, 6, 0)
    assert pool.shutdown(DEADLINE) == 0


def test_queued_tasks_run_in_their_order() -> None:
    pool, first, order = a_pool(core=1, max=1, queue=100), Gated(), list[int]()
    submit(pool, first)
    futures = [submit(pool, order.append, number) for number in range(100)]
    first.let_go()
    for future in futures:
        future.result(DEADLINE)
    assert order == list(range(100))


def test_without_a_queue_threads_start_at_once() -> None:
    pool = a_pool(core=1, max=2, queue=0)
    tasks, futures = filled(pool)
    with pytest.raises(TaskRejected):
        submit(pool, Gated())
    ended(tasks, futures)


def test_an_idle_thread_is_used_again_once_the_core_is_there() -> None:
    pool = a_pool(core=1, max=4, queue=0)
    for _ in range(50):
        assert submit(pool, lambda: threading.current_thread().name).result(DEADLINE) == "tested-1"
        wait_until(lambda: len(pool._idle) == 1)
    assert pool.figures().threads == 1


def test_what_a_task_raises_is_its_futures_and_is_told() -> None:
    told: list[tuple[str, BaseException]] = []
    pool = a_pool(failed=lambda task, error: told.append((task.name, error)))

    def fail() -> None:
        raise KeyError("missing")

    future = submit(pool, fail)
    with pytest.raises(KeyError):
        future.result(DEADLINE)
    assert told == [(f"{__name__}.{fail.__qualname__}", future.exception())]
    assert (pool.figures().completed, pool.figures().failed) == (1, 1)


def test_a_thread_outlives_even_an_exit() -> None:
    pool = a_pool(core=1, max=1)

    def leave() -> None:
        raise SystemExit(3)

    assert isinstance(submit(pool, leave).exception(DEADLINE), SystemExit)
    assert submit(pool, lambda: 1).result(DEADLINE) == 1
    assert pool.figures().threads == 1


def test_discard_cancels_the_task() -> None:
    pool = a_pool(rejection="discard")
    tasks, futures = filled(pool)
    assert submit(pool, Gated()).cancelled()
    assert pool.figures().rejected == 1
    ended(tasks, futures)


def test_discard_oldest_cancels_what_has_waited_longest() -> None:
    pool = a_pool(rejection="discard_oldest")
    tasks, futures = filled(pool)
    newest = submit(pool, lambda: "newest")
    assert futures[2].cancelled()
    assert pool.figures().queued == 2
    ended(tasks, [future for future in futures if not future.cancelled()])
    assert newest.result(DEADLINE) == "newest"
    assert not tasks[2].began.is_set()


def test_discard_oldest_without_a_queue_discards_the_task() -> None:
    pool = a_pool(core=1, max=1, queue=0, rejection="discard_oldest")
    tasks, futures = filled(pool)
    assert submit(pool, Gated()).cancelled()
    ended(tasks, futures)


def test_caller_runs_runs_it_here() -> None:
    pool = a_pool(rejection="caller_runs")
    tasks, futures = filled(pool)
    future = submit(pool, threading.get_ident)
    assert future.result(0) == threading.get_ident()
    assert isinstance(submit(pool, int, "x").exception(0), ValueError)
    assert (pool.figures().completed, pool.figures().failed, pool.figures().rejected) == (2, 1, 2)
    ended(tasks, futures)


def test_caller_runs_sees_the_callers_context_itself() -> None:
    variable: ContextVar[str] = ContextVar("variable")
    pool = a_pool(rejection="caller_runs")
    tasks, futures = filled(pool)
    submit(pool, variable.set, "set by the task")
    assert variable.get() == "set by the task"
    ended(tasks, futures)


async def test_caller_runs_never_runs_in_an_event_loop() -> None:
    pool = a_pool(rejection="caller_runs")
    tasks, futures = filled(pool)
    with pytest.raises(TaskRejected, match="tested is full, and this is an event loop"):
        submit(pool, Gated())
    await asyncio.to_thread(ended, tasks, futures)


@pytest.mark.parametrize("rejection", ["abort", "caller_runs", "discard", "discard_oldest"])
def test_after_the_end_nothing_is_taken_by_any_policy(rejection: Any) -> None:
    pool = a_pool(rejection=rejection)
    assert pool.shutdown(0) == 0
    with pytest.raises(ExecutorStopped, match="tested is shut down"):
        submit(pool, Gated())


def test_shutdown_does_what_is_queued() -> None:
    pool = a_pool(core=1, max=1, queue=10)
    first = Gated()
    futures = [submit(pool, first), *(submit(pool, int, number) for number in range(10))]
    first.wait_begun()
    pool.close()
    first.let_go()
    assert pool.shutdown(DEADLINE) == 0
    assert [future.result(0) for future in futures[1:]] == list(range(10))
    assert pool.figures().threads == 0
    assert not pool._threads


def test_shutdown_cancels_what_is_queued_at_its_deadline() -> None:
    pool = a_pool(core=1, max=1, queue=10)
    first = Gated()
    running, queued = submit(pool, first), submit(pool, int)
    first.wait_begun()
    assert pool.shutdown(0.01) == 2
    assert queued.cancelled()
    first.let_go()
    assert running.result(DEADLINE) == "tested-1"


def test_a_task_may_end_its_own_executor() -> None:
    pool = a_pool(core=1, max=1)
    assert submit(pool, pool.shutdown, DEADLINE).result(DEADLINE) == 1


def test_a_cancelled_task_is_not_run() -> None:
    pool = a_pool(core=1, max=1, queue=2)
    first, second = Gated(), Gated()
    running, queued = submit(pool, first), submit(pool, second)
    assert queued.cancel()
    first.let_go()
    running.result(DEADLINE)
    assert pool.shutdown(DEADLINE) == 0
    assert not second.began.is_set()
    assert pool.figures().completed == 1


def test_a_task_that_waits_for_one_of_its_own_executor_is_refused() -> None:
    pool, other = a_pool(core=1, max=1), a_pool(core=1, max=1)

    def wait_for_own() -> Any:
        return submit(pool, int).result()

    def wait_for_exception() -> Any:
        return submit(pool, int).exception()

    with pytest.raises(ExecutorDeadlock, match="a task of the executor tested waits for another one"):
        submit(pool, wait_for_own).result(DEADLINE)
    with pytest.raises(ExecutorDeadlock):
        submit(pool, wait_for_exception).result(DEADLINE)
    assert submit(pool, lambda: submit(other, int).result()).result(DEADLINE) == 0


def test_a_task_may_wait_for_one_of_its_own_for_a_time_and_read_what_is_done() -> None:
    pool = a_pool(core=1, max=1)
    done = submit(pool, int)
    done.result(DEADLINE)

    def look() -> Any:
        with pytest.raises(TimeoutError):
            submit(pool, int).result(0.001)
        return done.result()

    assert submit(pool, look).result(DEADLINE) == 0


class CountingCare:
    """Remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def before(self) -> None:
        self.calls.append(("before", threading.current_thread().name))

    def after(self) -> None:
        self.calls.append(("after", threading.current_thread().name))

    def idle(self) -> None:
        self.calls.append(("idle", threading.current_thread().name))


def test_each_task_and_each_threads_end_is_cared_for_before_the_future_is_done() -> None:
    care = CountingCare()
    pool = a_pool(core=1, max=1, care=care)
    submit(pool, int, "x").exception(DEADLINE)
    assert care.calls == [("before", "tested-1"), ("after", "tested-1")]
    pool.shutdown(DEADLINE)
    assert care.calls[2:] == [("idle", "tested-1")]


def test_a_task_whose_care_fails_fails() -> None:
    class Broken(CountingCare):
        def before(self) -> None:
            raise OSError("no connection")

    pool = a_pool(core=1, max=1, care=Broken())
    with pytest.raises(OSError, match="no connection"):
        submit(pool, int).result(DEADLINE)
    assert pool.figures().threads == 1


def test_an_idle_core_thread_is_told_once_and_stays() -> None:
    care = CountingCare()
    pool = a_pool(core=1, max=1, keep_alive_ms=1, care=care)
    submit(pool, int).result(DEADLINE)
    wait_until(lambda: ("idle", "tested-1") in care.calls)
    assert pool.figures().threads == 1
    assert submit(pool, int).result(DEADLINE) == 0
    pool.shutdown(DEADLINE)
    assert [name for _, name in care.calls] == ["tested-1"] * len(care.calls)


def test_threads_beyond_the_core_end_when_they_have_nothing_to_do() -> None:
    pool = a_pool(core=2, max=4, queue=0, keep_alive_ms=1)
    tasks, futures = filled(pool)
    assert pool.figures().threads == 4
    ended(tasks, futures)
    wait_until(lambda: pool.figures().threads == 2)
    wait_until(lambda: len(pool._threads) == 2)
    pool.shutdown(DEADLINE)


def test_no_task_is_lost_when_threads_end_while_tasks_come() -> None:
    """The gate of a thread opens just as its waiting time is over: the task that it was handed is its own to run."""
    pool = a_pool(core=1, max=4, queue=0, rejection="abort", keep_alive_ms=1)
    pool._keep_alive = 0.0
    done: list[int] = []

    def submitter(numbers: range) -> None:
        for number in numbers:
            while True:
                try:
                    future = submit(pool, done.append, number)
                except TaskRejected:
                    threading.Event().wait(0.0001)
                else:
                    break
            if number % 3 == 0:
                future.result(DEADLINE)

    threads = [threading.Thread(target=submitter, args=(range(start, start + 1000),)) for start in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert pool.shutdown(DEADLINE) == 0
    assert sorted(done) == list(range(3000))
    assert pool.figures().completed == 3000
    assert pool.figures().active == pool.figures().threads == 0


def test_when_the_system_has_no_thread_left_the_task_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = a_pool(core=2, max=2, queue=1)
    first = Gated()
    running = submit(pool, first)
    first.wait_begun()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    queued = submit(pool, int)
    with pytest.raises(TaskRejected):
        submit(pool, int)
    monkeypatch.undo()
    first.let_go()
    running.result(DEADLINE)
    assert queued.result(DEADLINE) == 0
    assert pool.shutdown(DEADLINE) == 0


async def test_an_asynchronous_caller_waits_for_room() -> None:
    pool = a_pool(core=1, max=1, queue=1)
    tasks, futures = filled(pool)
    order: list[int] = []
    waiting = [task_of(pool, order.append, number) for number in range(3)]
    asked = [asyncio.ensure_future(pool.asubmit(task)) for task in waiting]
    await asyncio.sleep(0)
    assert pool.figures().waiting == 3
    assert not any(each.done() for each in asked)
    tasks[0].let_go()
    await asked[0]
    assert [each.done() for each in asked] == [True, False, False]
    tasks[1].let_go()
    await asyncio.gather(*asked, *(asyncio.wrap_future(task.future) for task in waiting))
    assert order == [0, 1, 2]
    await asyncio.to_thread(ended, tasks, futures)


async def test_an_asynchronous_caller_waits_for_a_thread_where_there_is_no_queue() -> None:
    pool = a_pool(core=1, max=1, queue=0)
    tasks, futures = filled(pool)
    task = task_of(pool, lambda: "done")
    asked = asyncio.ensure_future(pool.asubmit(task))
    await asyncio.sleep(0)
    assert not asked.done()
    tasks[0].let_go()
    await asked
    assert await asyncio.wrap_future(task.future) == "done"
    await asyncio.to_thread(ended, tasks, futures)


async def test_a_caller_that_is_cancelled_takes_its_task_back() -> None:
    pool = a_pool(core=1, max=1, queue=0)
    tasks, futures = filled(pool)
    task = task_of(pool, int)
    asked = asyncio.ensure_future(pool.asubmit(task))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert pool.figures().waiting == 0
    assert task.future.cancelled()
    await asyncio.to_thread(ended, tasks, futures)


async def test_callers_that_wait_are_refused_at_the_end() -> None:
    pool = a_pool(core=1, max=1, queue=0)
    tasks, futures = filled(pool)
    asked = asyncio.ensure_future(pool.asubmit(task_of(pool, int)))
    await asyncio.sleep(0)
    pool.close()
    with pytest.raises(ExecutorStopped):
        await asked
    with pytest.raises(ExecutorStopped):
        await pool.asubmit(task_of(pool, int))
    await asyncio.to_thread(ended, tasks, futures)


async def test_only_so_many_callers_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduling.executors.pool.MAX_WAITING", 1)
    pool = a_pool(core=1, max=1, queue=0)
    tasks, futures = filled(pool)
    asked = asyncio.ensure_future(pool.asubmit(task_of(pool, int)))
    await asyncio.sleep(0)
    with pytest.raises(TaskRejected):
        await pool.asubmit(task_of(pool, int))
    tasks[0].let_go()
    await asked
    await asyncio.to_thread(ended, tasks, futures)


async def test_many_asynchronous_callers_are_all_served() -> None:
    pool = a_pool(core=2, max=4, queue=3)
    tasks: list[Task] = [task_of(pool, abs, -number) for number in range(500)]

    async def one(task: Task) -> Any:
        await pool.asubmit(task)
        return await asyncio.wrap_future(task.future)

    assert await asyncio.gather(*map(one, tasks)) == list(range(500))
    assert pool.figures().completed == 500
    assert await asyncio.to_thread(pool.shutdown, DEADLINE) == 0


def test_waiting_for_a_cancelled_task_ends() -> None:
    pool = a_pool(rejection="discard")
    tasks, futures = filled(pool)
    with pytest.raises(CancelledError):
        submit(pool, int).result()
    ended(tasks, futures)
