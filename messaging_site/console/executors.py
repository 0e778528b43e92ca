"""The Executors screen: thread pools over all processes and in each of them, and calls of durable functions.

What is shown of pools comes from `scheduling.executors.reports`, some seconds old at most.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from brokers import processes
from brokers.errors import LockNotFound
from brokers.processes import STALE_SECONDS, Listed
from messaging_site.console import task_words
from messaging_site.console.failure_words import Word
from messaging_site.console.permissions import authorize, requires
from scheduling import call_board
from scheduling.call_board import CallLine
from scheduling.executors import reports
from scheduling.executors.definition import Figures
from scheduling.executors.reports import ExecutorSummary, ProcessExecutors
from scheduling.locks import listing as lock_reads
from scheduling.tasks.store import BEAT_LOCK

RESOURCE: Final = ("server", "")
"""What a permission on executors is granted on, as over REST."""
CALLS_SHOWN: Final = 20
LATE_SECONDS: Final = 9.0
"""A process renews its report every five seconds; silent for longer than this it is late."""
CALL_FILTERS: Final = (("", "Latest"), ("open", "Running and waiting"), ("dead", "Given up"))

HEALTHY: Final = Word("ok", "ok", "Healthy")
LATE: Final = Word("clock", "warn", "Late")
LOST: Final = Word("stop", "bad", "Lost")
LOST_SECONDS: Final = 30.0
"""A process that was silent for so long is taken for killed; a minute after its last word it is forgotten."""
UNUSED: Final = Word("ring", "mute", "Unused")
IDLE: Final = Word("ring", "mute", "Idle")
WORKING: Final = Word("info", "info", "Working")
QUEUEING: Final = Word("list", "warn", "Queueing")
FULL: Final = Word("stop", "bad", "Full")
_TITLES: Final = {
    UNUSED: "No live process has used it",
    IDLE: "Nothing runs and nothing waits",
    WORKING: "Tasks run, and none waits for a thread",
    QUEUEING: "Tasks wait for a thread",
    FULL: "All threads are busy and the queue is full: what comes next is rejected",
}
_REJECTIONS: Final = {
    "abort": "rejects what is beyond",
    "caller_runs": "callers run what is beyond",
    "discard": "drops what is beyond",
    "discard_oldest": "drops the oldest",
}
_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Row:
    """An executor over all processes, or in one of them, as a line."""

    figures: ExecutorSummary | Figures
    state: Word
    meaning: str
    threads: int
    """How many tasks can run at once."""
    room: int
    """How many can wait."""
    active_share: int
    """Of a hundred."""
    queued_share: int
    mean_ms: int | None
    """How long a task has taken on average."""
    rejection: str


@dataclass(frozen=True, slots=True)
class Process:
    """One process and its executors."""

    report: ProcessExecutors
    health: Word
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process of some server as a line."""

    process: Listed
    health: Word
    heard_at: datetime
    leads: bool
    """It is the beat that fires."""


@dataclass(frozen=True, slots=True)
class CallRow:
    """One call of a durable function as a line."""

    call: CallLine
    state: Word
    reason: str
    """The last line of its error."""


@require_safe
@requires("describe", "server", per_item=True)
def listing(request: HttpRequest) -> HttpResponse:
    """All executors, the processes that use them, and calls of durable functions."""
    authorize(request, "describe", *RESOURCE)
    found = reports.reports()
    summed = reports.summed(found)
    context = {
        "title": "Executors",
        "crumbs": [("Runtime", None), ("Executors", None)],
        "rows": [_row(each, each.processes, _is_full(found, each.name)) for each in summed],
        "processes": [_process(each) for each in found],
        "living": _living(),
        "active": sum(each.active for each in summed),
        "threads": sum(each.threads for each in summed),
        "queued": sum(each.queued for each in summed),
        "waiting": sum(each.waiting for each in summed),
        "failed": sum(each.failed for each in summed),
        "completed": sum(each.completed for each in summed),
        "rejected": sum(each.rejected for each in summed),
    }
    return render(request, "console/executors/list.html", context | _calls(request))


def _living() -> list[ProcessRow]:
    now, leader = datetime.now(UTC), _leader()
    return [
        ProcessRow(
            each,
            HEALTHY if each.silent_seconds < STALE_SECONDS else LATE if each.silent_seconds < LOST_SECONDS else LOST,
            now - timedelta(seconds=each.silent_seconds),
            each.kind == "beat" and leader.startswith(f"{each.host}:{each.pid}:"),
        )
        for each in processes.listed()
    ]


def _leader() -> str:
    """The beat that leads, as its lock names it; empty when none does."""
    try:
        lock = lock_reads.get(BEAT_LOCK)
    except LockNotFound:
        return ""
    return lock.locked_by if lock.is_held else ""


def _is_full(found: Sequence[ProcessExecutors], name: str) -> bool:
    """Whether some process has no room left in this executor."""
    return any(_has_no_room(each) for process in found for each in process.executors if each.name == name)


def _has_no_room(figures: Figures) -> bool:
    return figures.active >= figures.max and figures.queued >= figures.queue_capacity


def _row(figures: ExecutorSummary | Figures, processes: int, is_full: bool) -> Row:
    threads, room = figures.max * processes, figures.queue_capacity * processes
    state = _state(figures, processes, is_full)
    return Row(
        figures=figures,
        state=state,
        meaning=_TITLES[state],
        threads=threads,
        room=room,
        active_share=_share(figures.active, threads),
        queued_share=_share(figures.queued, room),
        mean_ms=round(1000 * figures.seconds / figures.completed) if figures.completed else None,
        rejection=_REJECTIONS.get(figures.rejection, figures.rejection),
    )


def _state(figures: ExecutorSummary | Figures, processes: int, is_full: bool) -> Word:
    if not processes:
        return UNUSED
    if is_full:
        return FULL
    if figures.queued or figures.waiting:
        return QUEUEING
    return WORKING if figures.active else IDLE


def _share(part: int, whole: int) -> int:
    """Of a hundred; something is never drawn as nothing."""
    return min(max(round(100 * part / whole), 1 if part else 0), 100) if whole else 0


def _process(report: ProcessExecutors) -> Process:
    age = (datetime.now(UTC) - report.at).total_seconds()
    rows = [_row(each, 1, _has_no_room(each)) for each in report.executors]
    return Process(report, LATE if age > LATE_SECONDS else HEALTHY, rows)


def _calls(request: HttpRequest) -> dict[str, Any]:
    only = request.GET.get("calls", "")
    only = only if only in dict(CALL_FILTERS) else ""
    before = request.GET.get("before", "")
    start = min(int(before), call_board.MAX_ID) if _ID.fullmatch(before) else call_board.MAX_ID
    found, following = call_board.calls(only, start, CALLS_SHOWN)
    open_calls, running_calls = call_board.open_calls()
    return {
        "calls": [_call_row(each) for each in found],
        "only": only,
        "before": before,
        "call_filters": CALL_FILTERS,
        "following": following,
        "open_calls": open_calls,
        "running_calls": running_calls,
        "most_open": call_board.MOST_OPEN,
    }


def _call_row(call: CallLine) -> CallRow:
    lines = [line.strip() for line in call.error.splitlines() if line.strip()]
    return CallRow(call, task_words.RUN_STATES[call.state], lines[-1] if lines else "")
