"""Scheduled tasks over REST: looking at them and their runs, pausing, running now.

`messaging_site.asgi` adds these to the REST application.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec
from msgspec import UNSET

from brokers import idempotency
from brokers.access import allowed
from brokers.errors import (
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    InvalidValue,
    RunNotFound,
    TaskNotFound,
)
from brokers.instants import rfc3339
from brokers.rest.operation import Access, Answer, Call, Operation
from brokers.rest.threads import in_thread
from brokers.rest.topics import PageQuery
from scheduling.rest import task_schemas as schemas
from scheduling.tasks import control, task_json
from scheduling.tasks.control import RunInfo, TaskInfo

LATEST = 10
"""Runs that the description of a task shows."""


async def get_scheduled_tasks(call: Call) -> Answer:
    """Scheduled tasks by name, those that the caller may describe; those too that are declared no more."""

    def may(task: TaskInfo) -> bool:
        return allowed(call.principal, "describe", "schedule", task.name)

    def read() -> schemas.ScheduledTaskPage:
        rows, following = control.page(call.query.after, call.query.limit, may)
        return schemas.ScheduledTaskPage(list(map(_task, rows)), following)

    return Answer(body=await in_thread(read))


async def get_scheduled_task(call: Call) -> Answer:
    """One task: its schedule, what comes next and how its latest runs went."""
    return Answer(body=await in_thread(_described, call.path["task"]))


async def patch_scheduled_task(call: Call) -> Answer:
    """Pauses a task, or has it go on, and notes why.

    A run that is under way goes on. Due times that pass during a pause are not made good.
    """
    body: schemas.TaskChange = call.body
    name = call.path["task"]
    if body.paused is UNSET and body.note is UNSET:
        raise InvalidValue("give paused, note or both")
    if body.note is not UNSET and "\0" in body.note:
        raise InvalidValue("the note holds a NUL character", pointer="/note")
    paused = None if body.paused is UNSET else body.paused
    note = None if body.note is UNSET else body.note

    def change() -> schemas.DescribedTask:
        control.set_paused(name, paused, note, actor=call.actor())
        return _described(name)

    return Answer(body=await in_thread(change))


async def post_task_run(call: Call) -> Answer:
    """Has a task run once, outside of its schedule, whether or not it is paused.

    The run begins when a worker is free; where runs of the task exclude each other it waits for its turn. With an
    `Idempotency-Key` a repeat within 24 hours is answered with the first run, as it is now.
    """
    name = call.path["task"]
    given = call.headers.get(b"idempotency-key")
    key = None if given is None else idempotency.checked_key(given)

    def make() -> bytes:
        return b"%d" % control.run_now(name, actor=call.actor())

    def run() -> tuple[schemas.TaskRun, bool]:
        if key is None:
            made, repeated = make(), False
        else:
            made, repeated = idempotency.once(call.principal.name, "task-runs", key, name.encode(), make)
        return _whole(control.run(name, int(made))), repeated

    made, repeated = await in_thread(run)
    location = f"/api/v1/scheduled-tasks/{quote(name, safe='')}/runs/{made.id}"
    headers = [(b"location", location.encode())]
    return Answer(202, made, [*headers, (b"idempotent-replayed", b"true")] if repeated else headers)


async def get_task_runs(call: Call) -> Answer:
    """Runs of a task, latest first. They are kept for thirty days after their end."""
    query: schemas.TaskRunQuery = call.query
    name = call.path["task"]

    def read() -> schemas.TaskRunPage:
        control.get(name)
        found = control.history(name, query.before, query.limit + 1)
        following = str(found[query.limit - 1].id) if len(found) > query.limit else None
        return schemas.TaskRunPage([_summary(each) for each in found[: query.limit]], following)

    return Answer(body=await in_thread(read))


async def get_task_run(call: Call) -> Answer:
    """One run with its result, or all that is kept of what it raised."""
    return Answer(body=_whole(await in_thread(control.run, call.path["task"], call.integer("run_id"))))


# -- answers ----------------------------------------------------------------------------------------------------------


def _described(name: str) -> schemas.DescribedTask:
    task = control.get(name)
    runs = control.history(name, limit=LATEST)
    more = {"upcoming": list(map(rfc3339, task.upcoming())), "last_runs": list(map(task_json.of_run, runs))}
    return msgspec.convert(task_json.of_task(task) | more, schemas.DescribedTask)


def _task(task: TaskInfo) -> schemas.ScheduledTask:
    return msgspec.convert(task_json.of_task(task), schemas.ScheduledTask)


def _summary(run: RunInfo) -> schemas.TaskRunSummary:
    return msgspec.convert(task_json.of_run(run), schemas.TaskRunSummary)


def _whole(run: RunInfo) -> schemas.TaskRun:
    return msgspec.convert(task_json.of_run(run) | {"result": run.result}, schemas.TaskRun)


# -- operations -------------------------------------------------------------------------------------------------------


def operations() -> list[Operation]:
    """Declarations of all operations on scheduled tasks."""
    task = "/api/v1/scheduled-tasks/{task}"
    see, change = Access("describe", "schedule", "task"), Access("alter", "schedule", "task")
    return [
        Operation(
            method="GET",
            path="/api/v1/scheduled-tasks",
            summary="List scheduled tasks",
            tag="Scheduled tasks",
            access=(Access("describe", "schedule", why="the list holds what the caller may describe"),),
            handler=get_scheduled_tasks,
            query=PageQuery,
            answers={200: schemas.ScheduledTaskPage},
        ),
        Operation(
            method="GET",
            path=task,
            summary="Describe a scheduled task",
            tag="Scheduled tasks",
            access=(see,),
            handler=get_scheduled_task,
            answers={200: schemas.DescribedTask},
            problems=(TaskNotFound,),
        ),
        Operation(
            method="PATCH",
            path=task,
            summary="Pause or resume a scheduled task",
            tag="Scheduled tasks",
            access=(change,),
            handler=patch_scheduled_task,
            body=schemas.TaskChange,
            answers={200: schemas.DescribedTask},
            problems=(TaskNotFound,),
        ),
        Operation(
            method="POST",
            path=f"{task}/runs",
            summary="Run a scheduled task now",
            tag="Scheduled tasks",
            access=(change,),
            handler=post_task_run,
            answers={202: schemas.TaskRun},
            answer_headers=(
                ("Location", "The run's path."),
                ("Idempotent-Replayed", "`true` when this is the run of an earlier request."),
            ),
            headers=(("Idempotency-Key", "A repeat within 24 hours gets the first run and makes none."),),
            problems=(
                TaskNotFound,
                RunNotFound,
                InvalidIdempotencyKey,
                IdempotencyInProgress,
                IdempotencyKeyReused,
            ),
        ),
        Operation(
            method="GET",
            path=f"{task}/runs",
            summary="List the runs of a scheduled task",
            tag="Scheduled tasks",
            access=(see,),
            handler=get_task_runs,
            query=schemas.TaskRunQuery,
            answers={200: schemas.TaskRunPage},
            problems=(TaskNotFound,),
        ),
        Operation(
            method="GET",
            path=f"{task}/runs/{{run_id}}",
            summary="Describe a run of a scheduled task",
            tag="Scheduled tasks",
            access=(see,),
            handler=get_task_run,
            answers={200: schemas.TaskRun},
            problems=(RunNotFound,),
        ),
    ]
