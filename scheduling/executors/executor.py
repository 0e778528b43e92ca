"""`Executor`: a named thread pool that an application declares in its `messaging.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from scheduling.executors import registry
from scheduling.executors.definition import Definition, Figures, Rejection
from scheduling.executors.inheritance import inherited
from scheduling.executors.task import Task

P = ParamSpec("P")
T = TypeVar("T")


class Executor:
    """Threads for work beside a request, within bounds.

    A task gets one of `core` threads; when those are busy a place in the queue; when that is full one of the threads up
    to `max` (None: as many as `core`); then `rejection` decides: `abort`, `caller_runs`, `discard`, `discard_oldest`.
    So with a large queue `max` has no effect. `thread_name_prefix` is followed by a number, and by default the name.

    Each process has threads of its own, which start with its first task. What is submitted inside of a transaction
    may run before the transaction commits. A process that ends waits for its tasks; a process that is killed
    loses them. (After Spring's `ThreadPoolTaskExecutor`.)

    Raises `InvalidExecutor` and `InvalidName`, also for a second, different declaration of a name.
    """

    __slots__ = ("definition",)

    def __init__(
        self,
        name: str,
        core: int = 1,
        max: int | None = None,  # noqa: A002 - the word that Spring and the console use
        queue_capacity: int = 1000,
        thread_name_prefix: str | None = None,
        rejection: Rejection = "abort",
    ) -> None:
        prefix = f"{name}-" if thread_name_prefix is None else thread_name_prefix
        size = core if max is None else max
        self.definition = registry.declare(Definition(name, core, size, queue_capacity, prefix, rejection).checked())

    @property
    def name(self) -> str:
        """By which `@background(executor=...)` finds it."""
        return self.definition.name

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Calls a function in a thread of the executor; the future has what it answers or raises.

        What it raises is logged too (`registry.on_failure`). A discarded task's future is cancelled. The function sees
        the caller's context variables, but for those of its request. Raises `TaskRejected`.
        """
        return submit(self.name, function, args, kwargs)

    async def asubmit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """As `submit`, for asynchronous code: where there is no room it waits for it, whatever the rejection policy.

        Returns when the task runs or is queued; awaiting the future waits for its end.
        """
        return await asubmit(self.name, function, args, kwargs)

    def figures(self) -> Figures:
        """What the executor of this process does and did."""
        return registry.pool(self.name).figures()

    def shutdown(self, deadline_seconds: float = registry.EXIT_SECONDS) -> int:
        """Takes nothing more and does what is queued, within a time; answers how many tasks were not done."""
        return registry.pool(self.name).shutdown(deadline_seconds)


def submit(name: str, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[T]:
    """`Executor.submit` of the executor of that name; raises `ExecutorNotFound` too."""
    pool = registry.pool(name)
    task = Task(pool.future(), inherited(), function, args, kwargs)
    pool.submit(task)
    return task.future


async def asubmit(
    name: str, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> asyncio.Future[T]:
    """`Executor.asubmit` of the executor of that name; raises `ExecutorNotFound` too."""
    pool = registry.pool(name)
    task = Task(pool.future(), inherited(), function, args, kwargs)
    await pool.asubmit(task)
    return asyncio.wrap_future(task.future)
