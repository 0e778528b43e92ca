"""The shapes of scheduled tasks and their runs over REST."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from brokers.rest.schemas import Request
from scheduling.tasks.control import MAX_NOTE, MAX_RUN_ID

RunState = Literal["ready", "running", "succeeded", "failed", "timed_out", "skipped", "lost"]


class TaskRunSummary(msgspec.Struct):
    """One run of a scheduled task, as lists have it."""

    id: int
    state: RunState
    """`ready` waits for a worker or its turn; `lost`: its worker was gone in the middle of it."""
    trigger: Literal["schedule", "operator"]
    due_at: str
    started_at: str | None
    ended_at: str | None
    attempts: int
    error: str
    """Why it was skipped, or the end of what it raised."""
    process: str
    """The worker that did it: host and process id."""
    requested_by: str
    """Who asked for it, if it was not its schedule."""


class TaskRun(TaskRunSummary):
    """One run of a scheduled task."""

    result: Any
    """What the function answered, as JSON; null also where it answered nothing."""


class TaskRunPage(msgspec.Struct):
    """Runs of a task, latest first."""

    items: list[TaskRunSummary]
    next: str | None
    """The `before` of the next page, if there is one."""


class LatestRun(msgspec.Struct):
    """The latest run of a task, ended or not."""

    id: int
    state: RunState
    due_at: str
    started_at: str | None
    ended_at: str | None
    error: str
    process: str


class TaskLock(msgspec.Struct):
    """The lock that a task's runs take."""

    name: str
    at_most_for_ms: int
    at_least_for_ms: int


class ScheduledTask(msgspec.Struct):
    """A scheduled task."""

    name: str
    source: Literal["code", "operator"]
    """`operator`: a periodic task that was made in the console."""
    kind: str
    """`fixed_rate`, `fixed_delay`, `cron` or `once`; of an operator's one also what the console offers."""
    spec: dict[str, Any]
    """The schedule as it was declared."""
    schedule: str
    """The schedule in words."""
    declared: bool
    """False when nothing declares it any more: it is kept with its history, and never due."""
    paused: bool
    note: str
    overlap: Literal["skip", "queue", "allow"]
    """What becomes of a due time while a run has not ended."""
    misfire: Literal["run_once", "skip"]
    """Whether due times that passed while no server was up are made good by one run."""
    timeout_ms: int | None
    jitter_ms: int
    """Over how long starts are spread at random."""
    lock: TaskLock | None
    next_due: str | None
    """Null while it is paused, waits for the end of a run, or is over."""
    last_run: LatestRun | None


class DescribedTask(ScheduledTask):
    """A scheduled task with what comes and what was."""

    upcoming: list[str]
    """The next due times."""
    last_runs: list[TaskRunSummary]
    """The latest runs, latest first."""


class ScheduledTaskPage(msgspec.Struct):
    """Scheduled tasks that the caller may describe, by name."""

    items: list[ScheduledTask]
    next: str | None
    """The `after` of the next page, if there is one."""


class TaskChange(Request):
    """What to change of a scheduled task; what is absent stays."""

    paused: bool | UnsetType = UNSET
    note: Annotated[str, Meta(max_length=MAX_NOTE)] | UnsetType = UNSET
    """Why. Pausing or resuming without one takes the note away."""


class TaskRunQuery(msgspec.Struct):
    """Which part of a task's history."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    before: Annotated[int, Meta(ge=0, le=MAX_RUN_ID)] = MAX_RUN_ID
    """The `next` of the page before."""
