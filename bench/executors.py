"""Background tasks of one process: an executor's against the standard library's pool, tasks that do nothing.

A step submits a thousand tasks and waits for all of them, and the round trip waits for each. Connections are looked
after in both executors that are ours; the bare pool of the same code does not, which shows what that costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from bench.measurement import Measurement
from bench.rounds import Extent, speeds_of
from scheduling import Executor, background
from scheduling.executors import registry
from scheduling.executors.care import NoCare
from scheduling.executors.definition import Definition
from scheduling.executors.pool import Pool
from scheduling.executors.task import Task

GOAL = 0.5
THREADS = 8
TASKS = 1000
REFERENCE = "ThreadPoolExecutor"

Submit = Callable[[], Future[Any]]


def measure(extent: Extent) -> Iterator[Measurement]:
    """Submitting many, and one after the other."""
    name, short = "bench", extent.in_short_rounds()
    executor = Executor(name, core=THREADS, queue_capacity=TASKS)
    decorated = background(executor=name)(nothing)
    pool = Pool(Definition(name, THREADS, THREADS, TASKS, "bare-", "abort"), NoCare(), lambda task, error: None)

    def bare() -> Future[Any]:
        task = Task(pool.future(), copy_context(), nothing, (), {})
        pool.submit(task)
        return task.future

    with ThreadPoolExecutor(THREADS) as standard:
        submits: dict[str, Submit] = {
            "@background": decorated,
            "Executor.submit": lambda: executor.submit(nothing),
            "without connections": bare,
            REFERENCE: lambda: standard.submit(nothing),
        }
        for what, stepping in (("submitted together", together), ("one after the other", in_turn)):
            speeds = speeds_of({each: stepping(submit) for each, submit in submits.items()}, short)
            reference = speeds.pop(REFERENCE)
            for each, values in speeds.items():
                yield Measurement(
                    group="background tasks",
                    what=f"{each}, {what}",
                    speeds=values,
                    unit="tasks/s",
                    reference=REFERENCE,
                    reference_speeds=reference,
                    goal=GOAL if each == "@background" else None,
                )
    pool.shutdown(1)
    registry.pool(name).shutdown(1)
    registry.forget([name])


def nothing() -> None:
    """The task."""


def together(submit: Submit) -> Callable[[], int]:
    """A step of many tasks under way."""

    def step() -> int:
        for future in [submit() for _ in range(TASKS)]:
            future.result()
        return TASKS

    return step


def in_turn(submit: Submit) -> Callable[[], int]:
    """A step of tasks that are waited for each."""

    def step() -> int:
        for _ in range(TASKS // 10):
            submit().result()
        return TASKS // 10

    return step
