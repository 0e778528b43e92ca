"""`manage.py tasks`: lists scheduled tasks, describes one, has it run now, pauses and resumes it."""

from __future__ import annotations

import sys
import threading
import time
from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any, Final

from brokers import audit, terminal
from brokers.instants import rfc3339
from brokers.terminal import Output, TerminalCommand, duration, instant
from scheduling.tasks import control, task_json
from scheduling.tasks.control import RunInfo, TaskInfo

_PAGE: Final = 1000
LATEST: Final = 10
"""Runs that `show` shows."""
LOOK_SECONDS: Final = 0.1
OPEN: Final = ("ready", "running")


class Command(TerminalCommand):
    """Without a subcommand: `list`. `run --wait` exits with 1 when the run does not succeed."""

    help = "Lists scheduled tasks, describes them, runs them now, pauses and resumes them."

    def arguments(self, parser: ArgumentParser) -> None:
        """The subcommands and their arguments."""
        actions = parser.add_subparsers(dest="action", metavar="list|show|run|pause|resume")
        parser.set_defaults(action="list")
        every = actions.add_parser("list", help="All scheduled tasks (the default)")
        one = actions.add_parser("show", help="One task: its schedule, what comes next, and its latest runs")
        run = actions.add_parser("run", help="Has it run once, outside of its schedule, even when it is paused")
        run.add_argument("--wait", action="store_true", help="Waits for the run's end, and says how it went")
        run.add_argument("--timeout", type=float, metavar="SECONDS", help="Waits for so long at most")
        pause = actions.add_parser("pause", help="Has it due no more; what runs goes on")
        resume = actions.add_parser("resume", help="Has it go on; what was due meanwhile is not made good")
        for action in (pause, resume):
            action.add_argument("--note", default="", help=f"Why; up to {control.MAX_NOTE} characters")
        for action in (one, run, pause, resume):
            action.add_argument("name")
        for action in (every, one, run, pause, resume):
            terminal.add_json_option(action)

    def run(self, output: Output, options: dict[str, Any]) -> None:
        """Does the subcommand."""
        match options["action"]:
            case "show":
                _show(output, options["name"])
            case "run":
                if not _run(output, options["name"], wait=options["wait"], timeout=options["timeout"]):
                    output.flush()
                    sys.exit(1)
            case "pause" | "resume" as action:
                _set_paused(output, options["name"], action == "pause", options["note"])
            case _:
                _list(output)


def _list(output: Output) -> None:
    found: list[TaskInfo] = []
    after: str | None = ""
    while after is not None:
        page, after = control.page(after, _PAGE)
        found += page
    for task in found:
        output.json(task_json.of_task(task))
    output.table(
        ("Task", "Schedule", "State", "Next", "Last run", "Ended"),
        [
            (
                task.name,
                task.words(),
                _state(task),
                instant(_next_due(task)),
                task.last_run.state if task.last_run else "-",
                instant(task.last_run.ended_at if task.last_run else None),
            )
            for task in found
        ],
        "No task is scheduled",
    )


def _show(output: Output, name: str) -> None:
    task = control.get(name)
    runs = control.history(name, limit=LATEST)
    upcoming = task.upcoming()
    output.json(
        task_json.of_task(task)
        | {"upcoming": [rfc3339(due) for due in upcoming], "last_runs": [task_json.of_run(each) for each in runs]}
    )
    lock = task.options.get("lock")
    timeout = task.options.get("timeout_ms")
    for label, value in (
        ("Task", task.name),
        ("Schedule", task.words()),
        ("State", f"{_state(task)}{f' ({task.note})' if task.note else ''}"),
        ("Declared by", "code" if task.source == "code" else "an operator, in the console"),
        ("Overlap", task.overlap),
        ("Misfire", task.misfire),
        ("Timeout", duration(timeout) if timeout is not None else "none"),
        ("Lock", lock["name"] if lock else "none"),
        ("Next", ", ".join(map(instant, upcoming)) or "-"),
    ):
        output.line(f"{label:<12}{value}")
    output.line("")
    output.table(
        (">Run", "State", "By", "Due", "Began", ">Took", "Process", "Error"),
        [
            (
                str(each.id),
                each.state,
                each.called_by or each.trigger,
                instant(each.due_at),
                instant(each.started_at),
                _took(each),
                each.process or "-",
                _last_line(each.error),
            )
            for each in runs
        ],
        "It has not run yet",
    )


def _run(output: Output, name: str, *, wait: bool, timeout: float | None) -> bool:
    """Asks for a run; False when it was waited for, and did not succeed."""
    number = control.run_now(name, actor=audit.COMMAND)
    output.line(f"run {number} of {name} is asked for")
    if not wait:
        output.json(task_json.of_run(control.run(name, number)))
        return True
    output.flush()
    run = _ended(name, number, timeout)
    output.json(task_json.of_run(run) | {"result": run.result})
    if run.state in OPEN:
        output.line(f"run {number} has not ended yet: {run.state}")
    else:
        output.line(f"run {number} has ended: {run.state}, after {_took(run)}")
        for line in run.error.splitlines():
            output.line(f"  {line}")
    return run.state == "succeeded"


def _ended(name: str, number: int, timeout: float | None) -> RunInfo:
    """The run, once it has ended or the time is up."""
    until = None if timeout is None else time.monotonic() + timeout
    patience = threading.Event()
    while True:
        run = control.run(name, number)
        if run.state not in OPEN or (until is not None and time.monotonic() >= until):
            return run
        patience.wait(LOOK_SECONDS)


def _set_paused(output: Output, name: str, paused: bool, note: str) -> None:
    changed = control.set_paused(name, paused, note, actor=audit.COMMAND)
    word = "paused" if paused else "resumed" if changed else "not paused"
    output.line(f"task {name} is {word}{'' if changed else ' already' if paused else ''}")
    output.json({"name": name, "paused": paused, "changed": changed})


# -- words ------------------------------------------------------------------------------------------------------------


def _state(task: TaskInfo) -> str:
    if not task.is_declared:
        return "not declared"
    return "paused" if task.paused else "active"


def _next_due(task: TaskInfo) -> datetime | None:
    return None if task.paused or not task.is_declared else task.next_due


def _took(run: RunInfo) -> str:
    if run.started_at is None or run.ended_at is None:
        return "-"
    return f"{(run.ended_at - run.started_at) / timedelta(seconds=1):.3f} s"


def _last_line(error: str) -> str:
    lines = error.strip().splitlines()
    return lines[-1] if lines else ""
