"""Pools for tests, and tasks that wait until they are let go: what runs and what waits is known at each moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any

from scheduling.executors.care import Care, NoCare
from scheduling.executors.definition import Definition, Rejection
from scheduling.executors.pool import Pool
from scheduling.executors.task import Task

DEADLINE = 10.0


def a_pool(
    core: int = 2,
    max: int = 4,  # noqa: A002 - as the executor's
    queue: int = 2,
    rejection: Rejection = "abort",
    *,
    keep_alive_ms: int = 60_000,
    care: Care | None = None,
    failed: Callable[[Task, BaseException], None] = lambda task, error: None,
) -> Pool:
    """A pool that looks after no connections."""
    definition = Definition("tested", core, max, queue, "tested-", rejection, keep_alive_ms).checked()
    return Pool(definition, care or NoCare(), failed)


def task_of(pool: Pool, function: Callable[..., Any], *args: Any) -> Task:
    """A task that is not submitted yet."""
    return Task(pool.future(), copy_context(), function, args, {})


def submit(pool: Pool, function: Callable[..., Any], *args: Any) -> Future[Any]:
    """Submits a call."""
    task = task_of(pool, function, *args)
    pool.submit(task)
    return task.future


class Gated:
    """A task that has begun when `began` is set, and ends when it is let go, answering the name of its thread."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self._gate = threading.Event()

    def __call__(self) -> str:
        self.began.set()
        assert self._gate.wait(DEADLINE)
        return threading.current_thread().name

    def wait_begun(self) -> None:
        """Until a thread runs it."""
        assert self.began.wait(DEADLINE)

    def let_go(self) -> None:
        """Ends it."""
        self._gate.set()
