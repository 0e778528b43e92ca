"""The thread pool behind an executor: core threads, then a bounded queue, then more threads, then rejection.

The standard library's pool has neither a bound for its queue nor threads that come and go. One lock guards all state;
whatever may call foreign code (a future's callbacks, a task) happens outside of it. An idle thread waits at a gate of
its own, the one that came last being woken first, and only while the queue is empty. (After `ThreadPoolExecutor` in
Java, which Spring's `ThreadPoolTaskExecutor` wraps.)
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from scheduling.errors import ExecutorDeadlock, ExecutorStopped, TaskRejected
from scheduling.executors.care import Care
from scheduling.executors.definition import Definition, Figures
from scheduling.executors.parked import Waiter, Worker
from scheduling.executors.task import Task, TaskFuture

MAX_WAITING: Final = 10_000
"""Asynchronous callers that may wait for a place; more are rejected."""

_here = threading.local()


class Pool:
    """Threads and a queue; `failed` is called with what a task raised, in its thread, before its future is done."""

    def __init__(self, definition: Definition, care: Care, failed: Callable[[Task, BaseException], None]) -> None:
        self.definition = definition
        self._care = care
        self._failed_hook = failed
        self._keep_alive = definition.keep_alive_ms / 1000
        self._lock = threading.Lock()
        self._queue: deque[Task] = deque(maxlen=max(definition.queue_capacity, 1))
        self._waiting: deque[Waiter] = deque(maxlen=MAX_WAITING)
        self._idle: list[Worker] = []
        self._threads: set[threading.Thread] = set()
        self._size = 0
        """Threads that take tasks; one that ends is still in `_threads` for a moment."""
        self._started = 0
        self._is_down = False
        self.is_over = False
        """Whether `shutdown` was called, and has waited."""
        self._active = self._completed = self._failed = self._rejected = 0
        self._seconds = 0.0

    def future(self) -> TaskFuture[Any]:
        """A future for a task of this pool."""
        return TaskFuture(self._before_wait)

    def submit(self, task: Task) -> None:
        """Runs a task in a thread, now or when one is free.

        Where there is no room, the rejection policy decides. Raises `TaskRejected`: by the policy `abort`; by
        `caller_runs` where the caller is an event loop; and after `shutdown`, `ExecutorStopped`, by any policy.
        """
        policy = self.definition.rejection
        unwanted = task
        with self._lock:
            if not self._is_down:
                if self._place(task):
                    return
                self._rejected += 1
                if policy == "discard_oldest" and self._queue:
                    unwanted = self._queue.popleft()
                    self._queue.append(task)
            is_down = self._is_down
        if is_down:
            raise self._stopped()
        if policy == "abort":
            raise self._full()
        if policy == "caller_runs":
            self._run_in_caller(task)
        else:
            unwanted.future.cancel()

    async def asubmit(self, task: Task) -> None:
        """Returns when the task has a thread or a place in the queue; waits for it, whatever the rejection policy.

        A caller that is cancelled meanwhile takes its task back. Raises `TaskRejected` when too many wait,
        and `ExecutorStopped`.
        """
        with self._lock:
            if self._is_down:
                raise self._stopped()
            if self._place(task):
                return
            if len(self._waiting) >= MAX_WAITING:
                self._rejected += 1
                raise self._full()
            waiter = Waiter(task, asyncio.get_running_loop())
            self._waiting.append(waiter)
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            with self._lock, contextlib.suppress(ValueError):  # it may have been admitted in this moment
                self._waiting.remove(waiter)
            task.future.cancel()
            raise

    def figures(self) -> Figures:
        """What the pool does and did, all at one moment."""
        own = self.definition
        with self._lock:
            return Figures(
                name=own.name,
                core=own.core,
                max=own.max,
                queue_capacity=own.queue_capacity,
                rejection=own.rejection,
                threads=self._size,
                active=self._active,
                queued=len(self._queue),
                waiting=len(self._waiting),
                completed=self._completed,
                failed=self._failed,
                rejected=self._rejected,
                seconds=self._seconds,
            )

    def close(self) -> None:
        """Takes nothing more; what is queued is still done. Does not wait."""
        with self._lock:
            self._is_down = True
            waiting = list(self._waiting)
            self._waiting.clear()
            for worker in self._idle:
                worker.gate.release()
            self._idle.clear()
        for waiter in waiting:
            waiter.tell(self._stopped())

    def shutdown(self, deadline_seconds: float) -> int:
        """Takes nothing more, and waits until all that was taken is done; answers how many tasks were not.

        At the deadline what is still queued is cancelled; what runs then goes on, and ends with the process.
        """
        until = time.monotonic() + deadline_seconds
        self.close()
        with self._lock:
            threads = [thread for thread in self._threads if thread is not threading.current_thread()]
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        with self._lock:
            left = list(self._queue)
            self._queue.clear()
            running = self._active
            self.is_over = True
        for task in left:
            task.future.cancel()
        return len(left) + running

    # -- under the lock ----------------------------------------------------------------------------------------

    def _place(self, task: Task) -> bool:
        """Gives a task to a thread or the queue, in Java's order; whether there was room."""
        own = self.definition
        if self._size < own.core and self._spawn(task):
            return True
        if self._idle:
            worker = self._idle.pop()
            worker.task = task
            self._active += 1
            worker.gate.release()
            return True
        if self._size and len(self._queue) < own.queue_capacity:
            self._queue.append(task)
            return True
        return self._size < own.max and self._spawn(task)

    def _spawn(self, task: Task) -> bool:
        """Starts a thread with a task; whether the system had one."""
        name = f"{self.definition.thread_name_prefix}{self._started + 1}"
        thread = threading.Thread(target=self._work, args=(Worker(task),), name=name, daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # the system's limit of threads
            self._threads.discard(thread)
            return False
        self._started += 1
        self._size += 1
        self._active += 1
        return True

    def _take(self) -> Task | None:
        """The task that has waited longest; its place goes to the caller that has waited longest."""
        if self._queue:
            task = self._queue.popleft()
            if self._waiting:
                waiter = self._waiting.popleft()
                self._queue.append(waiter.task)
                waiter.tell()
        elif self._waiting:
            waiter = self._waiting.popleft()
            task = waiter.task
            waiter.tell()
        else:
            return None
        self._active += 1
        return task

    # -- in the pool's threads ---------------------------------------------------------------------------------

    def _work(self, worker: Worker) -> None:
        _here.pool = self
        task, worker.task = worker.task, None
        try:
            while task is not None:
                self._perform(task)
                worker.is_rested = False
                task = self._next(worker)
        finally:
            self._care.idle()
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _next(self, worker: Worker) -> Task | None:
        """The next task for a thread, waited for; None: the thread ends."""
        while True:
            with self._lock:
                task = self._take()
                if task is not None:
                    return task
                if self._is_down:
                    self._size -= 1
                    return None
                self._idle.append(worker)
                may_wait = worker.is_rested and self._size <= self.definition.core
            if not worker.gate.acquire(timeout=-1 if may_wait else self._keep_alive):
                with self._lock:
                    if worker in self._idle:
                        self._idle.remove(worker)
                        if self._size > self.definition.core:
                            self._size -= 1
                            return None
                        worker.is_rested = True
                    else:  # it is being handed a task: the gate was opened just after the time was up
                        worker.gate.acquire()
            task, worker.task = worker.task, None
            if task is not None:
                return task
            if worker.is_rested:
                self._care.idle()

    def _perform(self, task: Task) -> None:
        if not task.future.set_running_or_notify_cancel():
            with self._lock:
                self._active -= 1
            return
        began = time.perf_counter()
        try:
            self._care.before()
            try:
                answer = task.context.run(task.function, *task.args, **task.kwargs)
            finally:
                self._care.after()
        except BaseException as error:
            self._fail(task, error, began, in_thread=1)
        else:
            self._count(began, in_thread=1)
            task.future.set_result(answer)

    # -- in any thread -----------------------------------------------------------------------------------------

    def _run_in_caller(self, task: Task) -> None:
        """Runs a task here and now, in the caller's own context; its connections are the caller's."""
        if _is_in_event_loop():
            raise TaskRejected(
                f"the executor {self.definition.name} is full, and this is an event loop, which must not run its task; "
                f"await asubmit"
            )
        if not task.future.set_running_or_notify_cancel():
            return
        began = time.perf_counter()
        try:
            answer = task.function(*task.args, **task.kwargs)
        except Exception as error:
            self._fail(task, error, began, in_thread=0)
        except BaseException as error:
            task.future.set_exception(error)
            raise
        else:
            self._count(began, in_thread=0)
            task.future.set_result(answer)

    def _fail(self, task: Task, error: BaseException, began: float, *, in_thread: int) -> None:
        self._failed_hook(task, error)
        self._count(began, in_thread=in_thread, failed=1)
        task.future.set_exception(error)

    def _count(self, began: float, *, in_thread: int, failed: int = 0) -> None:
        """A task has ended; counted before its future is done, so that whoever waits for it reads true figures."""
        seconds = time.perf_counter() - began
        with self._lock:
            self._active -= in_thread
            self._completed += 1
            self._failed += failed
            self._seconds += seconds

    def _before_wait(self) -> None:
        if getattr(_here, "pool", None) is self:
            raise ExecutorDeadlock(
                f"a task of the executor {self.definition.name} waits for another one of it: with all threads waiting "
                f"so, none would go on. Use another executor, or a timeout"
            )

    def _full(self) -> TaskRejected:
        own = self.definition
        return TaskRejected(
            f"the executor {own.name} is full: {own.max} threads are busy and {own.queue_capacity} tasks wait"
        )

    def _stopped(self) -> ExecutorStopped:
        return ExecutorStopped(f"the executor {self.definition.name} is shut down")


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
