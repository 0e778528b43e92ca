"""What scheduled tasks, background work, locks and executors count, by Prometheus names.

| name | kind | labels | meaning |
| --- | --- | --- | --- |
| waystation_runs_total | counter | kind, name, result | attempts at runs that ended, and due times that were skipped |
| waystation_run_seconds | histogram | kind | from an attempt's beginning to its end |
| waystation_run_late_seconds | histogram | kind | from when a run was to begin to its beginning |
| waystation_runs_lost_total | counter | | runs whose worker was gone, counted by the leading beat |
| waystation_beat_leads | gauge | | 1 while a beat of this server leads |
| waystation_beat_ticked_seconds | gauge | | when a beat of this server last looked, in seconds since 1970 |
| waystation_locks_acquired_total | counter | | locks that processes of this server took |
| waystation_locks_contended_total | counter | | attempts at a lock that another held |
| waystation_locks_released_total | counter | | locks given back in time |
| waystation_locks_lost_total | counter | | locks that lapsed or were released by force before that |
| waystation_executor_threads | gauge | executor | threads |
| waystation_executor_active | gauge | executor | tasks that run |
| waystation_executor_queued | gauge | executor | tasks that wait in the queue |
| waystation_executor_tasks_total | counter | executor | tasks that ended, well or not |
| waystation_executor_task_seconds_total | counter | executor | how long those took together |
| waystation_executor_failures_total | counter | executor | of those, the ones that raised |
| waystation_executor_rejections_total | counter | executor | tasks for which there was no room |

`kind` is `scheduled` or `background`, `name` the task's or the function's, `result` a state of runs, or `retried`, or
`lost` where the run was another's by its end. Operators may make any number of tasks: a process tells 200 names apart,
and calls the others `other`. A lock's name is no label, since an application may make names without end. A pool counts
in plain integers, and its process's `reporter` adds them up each second, so that a task in an executor costs no more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge, Histogram

from scheduling.executors.definition import Figures

if TYPE_CHECKING:
    from scheduling.runs import Attempt

MAX_NAMES: Final = 200
OTHER: Final = "other"

runs = Counter("waystation_runs", "Attempts at runs that ended", ["kind", "name", "result"])
run_seconds = Histogram(
    "waystation_run_seconds",
    "From an attempt's beginning to its end",
    ["kind"],
    buckets=(0.005, 0.02, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600),
)
run_late_seconds = Histogram(
    "waystation_run_late_seconds",
    "From when a run was to begin to its beginning",
    ["kind"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600),
)
runs_lost = Counter("waystation_runs_lost", "Runs whose worker was gone")
beat_leads = Gauge("waystation_beat_leads", "Whether a beat of this server leads", multiprocess_mode="livesum")
beat_ticked = Gauge("waystation_beat_ticked_seconds", "When a beat last looked", multiprocess_mode="livemax")

locks_acquired = Counter("waystation_locks_acquired", "Locks taken")
locks_contended = Counter("waystation_locks_contended", "Attempts at a lock that another held")
locks_released = Counter("waystation_locks_released", "Locks given back in time")
locks_lost = Counter("waystation_locks_lost", "Locks that had lapsed or were released by force")

_threads = Gauge("waystation_executor_threads", "Threads of executors", ["executor"], multiprocess_mode="livesum")
_active = Gauge("waystation_executor_active", "Tasks that run", ["executor"], multiprocess_mode="livesum")
_queued = Gauge("waystation_executor_queued", "Tasks that wait in queues", ["executor"], multiprocess_mode="livesum")
_tasks = Counter("waystation_executor_tasks", "Tasks of executors that ended", ["executor"])
_task_seconds = Counter("waystation_executor_task_seconds", "How long ended tasks took together", ["executor"])
_failures = Counter("waystation_executor_failures", "Tasks of executors that raised", ["executor"])
_rejections = Counter("waystation_executor_rejections", "Tasks for which an executor had no room", ["executor"])

_names: set[str] = set()


def known(name: str) -> str:
    """A name as a label: itself, or `other` once this process has told enough names apart."""
    if name not in _names:
        if len(_names) >= MAX_NAMES:
            return OTHER
        _names.add(name)
    return name


def run_began(attempt: Attempt) -> None:
    """An attempt has begun."""
    run_late_seconds.labels(_kind(attempt)).observe(max(attempt.late_seconds, 0.0))


def run_ended(attempt: Attempt, state: str | None, seconds: float) -> None:
    """An attempt has ended, and the run is in this state; None: it was taken from this process meanwhile."""
    result = {None: "lost", "ready": "retried"}.get(state, state)
    runs.labels(_kind(attempt), known(attempt.function), result).inc()
    run_seconds.labels(_kind(attempt)).observe(seconds)


def _kind(attempt: Attempt) -> str:
    return "background" if attempt.task_id is None else "scheduled"


def run_skipped(name: str) -> None:
    """A due time passed without a run of its own."""
    runs.labels("scheduled", known(name), "skipped").inc()


def beat_ticks(leads: bool) -> None:
    """A beat has looked at what is due, or at whether it leads."""
    beat_leads.set(leads)
    beat_ticked.set(time.time())


class ExecutorTally:
    """Brings the metrics of one process's executors up to date with their figures."""

    def __init__(self) -> None:
        self._before: dict[str, Figures] = {}

    def flush(self, figures: Iterable[Figures]) -> None:
        """Adds what was counted since the last time."""
        for now in figures:
            before = self._before.get(now.name)
            if now == before:
                continue
            if before is not None and now.completed + now.rejected < before.completed + before.rejected:
                before = None  # another pool by now
            _threads.labels(now.name).set(now.threads)
            _active.labels(now.name).set(now.active)
            _queued.labels(now.name).set(now.queued)
            _tasks.labels(now.name).inc(now.completed - (before.completed if before else 0))
            _task_seconds.labels(now.name).inc(now.seconds - (before.seconds if before else 0.0))
            _failures.labels(now.name).inc(now.failed - (before.failed if before else 0))
            _rejections.labels(now.name).inc(now.rejected - (before.rejected if before else 0))
            self._before[now.name] = now
