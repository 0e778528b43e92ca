"""Who waits in a pool: a thread for a task, an asynchronous caller for a place. Used by `pool` under its lock."""

from __future__ import annotations

import asyncio
import contextlib
import threading

from scheduling.errors import TaskRejected
from scheduling.executors.task import Task


class Worker:
    """A thread of the pool."""

    __slots__ = ("gate", "is_rested", "task")

    def __init__(self, task: Task) -> None:
        self.task: Task | None = task
        """What it was handed; it is written before the gate opens."""
        self.gate = threading.Lock()
        self.gate.acquire()
        self.is_rested = False
        """Whether it was told that it is idle, since its last task."""


class Waiter:
    """An asynchronous caller without a place yet."""

    __slots__ = ("admitted", "loop", "task")

    def __init__(self, task: Task, loop: asyncio.AbstractEventLoop) -> None:
        self.task = task
        self.loop = loop
        self.admitted: asyncio.Future[None] = loop.create_future()

    def tell(self, refusal: TaskRejected | None = None) -> None:
        """Wakes the caller, from any thread."""
        with contextlib.suppress(RuntimeError):  # its event loop is closed, and it with that
            self.loop.call_soon_threadsafe(self._wake, refusal)

    def _wake(self, refusal: TaskRejected | None) -> None:
        if self.admitted.done():
            return
        if refusal is None:
            self.admitted.set_result(None)
        else:
            self.admitted.set_exception(refusal)
