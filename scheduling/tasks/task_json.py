"""A scheduled task and its runs as JSON, the same over REST and from the command."""

from __future__ import annotations

from typing import Any

from brokers.instants import rfc3339
from scheduling.tasks.control import LastRun, RunInfo, TaskInfo


def of_task(task: TaskInfo) -> dict[str, Any]:
    """A task, with its latest run."""
    return {
        "name": task.name,
        "source": task.source,
        "kind": task.kind,
        "spec": task.spec,
        "schedule": task.words(),
        "declared": task.is_declared,
        "paused": task.paused,
        "note": task.note,
        "overlap": task.overlap,
        "misfire": task.misfire,
        "timeout_ms": task.options.get("timeout_ms"),
        "jitter_ms": task.options.get("jitter_ms") or 0,
        "lock": task.options.get("lock"),
        "next_due": None if task.paused or not task.is_declared else rfc3339(task.next_due),
        "last_run": None if task.last_run is None else of_latest(task.last_run),
    }


def of_latest(run: LastRun) -> dict[str, Any]:
    """The latest run of a task, as part of it."""
    return {
        "id": run.id,
        "state": run.state,
        "due_at": rfc3339(run.due_at),
        "started_at": rfc3339(run.started_at),
        "ended_at": rfc3339(run.ended_at),
        "error": run.error,
        "process": run.process,
    }


def of_run(run: RunInfo) -> dict[str, Any]:
    """A run, without its result."""
    return {
        "id": run.id,
        "state": run.state,
        "trigger": run.trigger,
        "due_at": rfc3339(run.due_at),
        "started_at": rfc3339(run.started_at),
        "ended_at": rfc3339(run.ended_at),
        "attempts": run.attempts,
        "error": run.error,
        "process": run.process,
        "requested_by": run.called_by,
    }
