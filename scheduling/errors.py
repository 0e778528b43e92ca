"""What scheduling and background work refuse; each error has a stable code. Those of locks are in `locks.errors`.

They are `brokers.errors`, so that REST answers with the same codes.
"""

from __future__ import annotations

from brokers.errors import BrokerError, InvalidValue, NotFound, RunNotFound, TaskNotFound

__all__ = [
    "ExecutorDeadlock",
    "ExecutorNotFound",
    "ExecutorStopped",
    "InvalidCron",
    "InvalidDuration",
    "InvalidExecutor",
    "InvalidSchedule",
    "RunNotFound",
    "RunTimedOut",
    "TaskNotFound",
    "TaskRejected",
]


class InvalidSchedule(InvalidValue):
    """When or how a task is to run makes no sense."""

    code = "invalid_schedule"


class InvalidDuration(InvalidSchedule):
    """A span of time that cannot be read, is negative, or is longer than a hundred years."""

    code = "invalid_duration"


class InvalidCron(InvalidSchedule):
    """A cron expression that Spring would not take either; says which field, and why."""

    code = "invalid_cron"


class RunTimedOut(BrokerError):
    """A run took longer than its task's timeout, and was interrupted."""

    code = "run_timed_out"


class InvalidExecutor(InvalidValue):
    """An executor's sizes or its rejection policy make no sense, or its name is taken by a different one."""

    code = "invalid_executor"


class ExecutorNotFound(NotFound):
    """No executor of that name is declared."""

    code = "executor_not_found"


class TaskRejected(BrokerError):
    """An executor has no thread and no place in its queue for one more task; the task did not run."""

    code = "task_rejected"
    retryable = True


class ExecutorStopped(TaskRejected):
    """The executor is shut down and takes nothing more."""

    code = "executor_stopped"


class ExecutorDeadlock(BrokerError):
    """A task waited for another task of its own executor, which might have needed the thread that waits."""

    code = "executor_deadlock"
