"""Any sequence of submits and endings, against a model of core threads, queue, more threads and rejection."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any, get_args

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scheduling.errors import TaskRejected
from scheduling.executors.definition import Rejection
from tests.unit.scheduling.executor_pools import DEADLINE, Gated, a_pool, submit


class PoolMachine(RuleBasedStateMachine):
    """One thread submits; each task runs until a rule lets it go."""

    @initialize(
        core=st.integers(1, 3),
        more=st.integers(0, 2),
        queue=st.integers(0, 3),
        rejection=st.sampled_from(get_args(Rejection)),
    )
    def declare(self, core: int, more: int, queue: int, rejection: Rejection) -> None:
        self.pool = a_pool(core, core + more, queue, rejection)
        self.running: list[tuple[Gated, Future[Any]]] = []
        self.queued: list[tuple[Gated, Future[Any]]] = []
        self.threads = self.completed = self.rejected = 0

    @rule()
    def submit_one(self) -> None:
        own, task = self.pool.definition, Gated()
        if self.threads < own.core:
            self.threads += 1
            self.running.append((task, submit(self.pool, task)))
        elif len(self.running) < self.threads:
            self.running.append((task, submit(self.pool, task)))
        elif len(self.queued) < own.queue_capacity:
            self.queued.append((task, submit(self.pool, task)))
        elif self.threads < own.max:
            self.threads += 1
            self.running.append((task, submit(self.pool, task)))
        else:
            self.rejected += 1
            self._is_rejected(task)
        if self.running:
            self.running[-1][0].wait_begun()

    def _is_rejected(self, task: Gated) -> None:
        match self.pool.definition.rejection:
            case "abort":
                try:
                    submit(self.pool, task)
                except TaskRejected:
                    return
                raise AssertionError("it was taken")
            case "caller_runs":
                task.let_go()
                assert submit(self.pool, task).done()
                self.completed += 1
            case "discard":
                assert submit(self.pool, task).cancelled()
            case "discard_oldest":
                future = submit(self.pool, task)
                if self.queued:
                    assert self.queued.pop(0)[1].cancelled()
                    self.queued.append((task, future))
                else:
                    assert future.cancelled()

    @precondition(lambda self: bool(self.running))
    @rule(which=st.integers(0, 9))
    def end_one(self, which: int) -> None:
        task, future = self.running.pop(which % len(self.running))
        task.let_go()
        future.result(DEADLINE)
        self.completed += 1
        if self.queued:
            self.running.append(self.queued.pop(0))
            self.running[-1][0].wait_begun()
        else:
            self._wait_idle()

    def _wait_idle(self) -> None:
        """The thread has ended its task and not yet looked for the next one: it is idle when it waits."""
        until = time.monotonic() + DEADLINE
        while len(self.pool._idle) != self.threads - len(self.running):
            assert time.monotonic() < until
            time.sleep(0)

    @invariant()
    def figures_agree(self) -> None:
        if not hasattr(self, "pool"):
            return
        figures = self.pool.figures()
        assert figures.active == len(self.running)
        assert figures.queued == len(self.queued)
        assert figures.threads == self.threads
        assert figures.completed == self.completed
        assert figures.rejected == self.rejected

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        for task, _ in self.running + self.queued:
            task.let_go()
        assert self.pool.shutdown(DEADLINE) == 0
        assert all(future.done() for _, future in self.running + self.queued)


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestPool = PoolMachine.TestCase
