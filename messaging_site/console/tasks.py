"""The Scheduled tasks screens: the list, one task with its history, one run; running a task now, pausing, resuming."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from brokers.errors import BrokerError, Conflict, LockNotFound
from messaging_site.console import formatting, stack_trace, task_words
from messaging_site.console.failure_words import Word
from messaging_site.console.permissions import actor, may, requires
from scheduling.errors import InvalidSchedule, TaskNotFound
from scheduling.locks import listing as lock_reads
from scheduling.locks.listing import LockRow
from scheduling.tasks import board, control
from scheduling.tasks.board import Card, Listed, RunLine
from scheduling.tasks.control import MAX_NOTE

PAGE_SIZE: Final = 50
RUNS_SHOWN: Final = 50
NAME_LENGTH: Final = 200
_FRAME_FILE = re.compile(r'^  File "(.*)", line \d', re.MULTILINE)
_LIBRARY = re.compile(r"(?:^|/)(?:site-packages|dist-packages|lib/python3\.\d+)/")
_OURS: Final = tuple(
    f"{settings.BASE_DIR / package}/" for package in ("brokers", "messaging_site", "realtime", "scheduling")
)
_MICROSECONDS = re.compile(r"[0-9]{1,16}", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Row:
    """One task as a line of the list."""

    card: Card
    states: list[Word]
    words: str
    """The schedule."""
    expression: str
    """Of cron, as it was written."""
    upcoming: list[datetime]
    """The next due times."""
    lock: str | None
    last: Word | None
    """How its last run stands."""
    last_at: datetime | None
    last_took_ms: int | None
    spark: str
    spark_words: str
    may_alter: bool


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run as a line of a history."""

    run: RunLine
    state: Word
    reason: str
    """Why it did not succeed, in a line."""
    is_ahead: bool
    """It was skipped before its time."""


@require_safe
@requires("describe", "schedule", per_item=True)
def listing(request: HttpRequest) -> HttpResponse:
    """All tasks that the user may see, by name."""
    text = request.GET.get("q", "").replace("\0", "").strip()[:NAME_LENGTH]
    only = request.GET.get("only", "")
    after = request.GET.get("after", "").replace("\0", "")[:NAME_LENGTH]

    def is_wanted(task: Listed) -> bool:
        return task_words.matches(task, only) and may(request, "describe", "schedule", task.name)

    found, following = board.listed(after, text, is_wanted, PAGE_SIZE)
    is_narrowed = bool(text or only or after)
    context = {
        "title": "Scheduled tasks",
        "crumbs": [("Runtime", None), ("Scheduled tasks", None)],
        "rows": [_row(request, each) for each in board.cards([task.id for task in found])],
        "text": text,
        "only": only,
        "after": after,
        "filters": task_words.FILTERS,
        "following": following,
        "latest": board.LATEST,
        "any_tasks": bool(found) or (is_narrowed and _any(request)),
        "add_url": _add_url(request),
        "periodic_url": _list_url(request),
    }
    return render(request, "console/tasks/list.html", context)


def _any(request: HttpRequest) -> bool:
    found, _ = board.listed("", "", lambda task: may(request, "describe", "schedule", task.name), 1)
    return bool(found)


def _add_url(request: HttpRequest) -> str:
    """Where an operator makes a periodic task of their own, if this one may."""
    permitted = request.user.has_perm("django_celery_beat.add_periodictask")
    return reverse("admin:django_celery_beat_periodictask_add") if permitted else ""


def _list_url(request: HttpRequest) -> str:
    """The list of operators' periodic tasks, for who may see it."""
    return reverse("admin:django_celery_beat_periodictask_changelist") if _may_see_periodic(request) else ""


def _may_see_periodic(request: HttpRequest) -> bool:
    return any(request.user.has_perm(f"django_celery_beat.{verb}_periodictask") for verb in ("view", "change"))


def _row(request: HttpRequest, card: Card) -> Row:
    info, last = card.info, card.info.last_run
    lock = task_words.lock_of(card)
    points, words = task_words.spark(card.took_ms)
    took = None
    if last is not None and last.started_at is not None and last.ended_at is not None:
        took = round((last.ended_at - last.started_at).total_seconds() * 1000)
    return Row(
        card=card,
        states=task_words.states(card),
        words=info.words(),
        expression=task_words.expression(card),
        upcoming=_upcoming(card),
        lock=None if lock is None else str(lock["name"]),
        last=None if last is None else task_words.RUN_STATES[last.state],
        last_at=None if last is None else last.started_at or last.ended_at or last.due_at,
        last_took_ms=took,
        spark=points,
        spark_words=words,
        may_alter=may(request, "alter", "schedule", info.name),
    )


def _upcoming(card: Card) -> list[datetime]:
    with contextlib.suppress(InvalidSchedule):  # of a release that this one does not understand
        return card.info.upcoming()
    return []


@require_safe
@requires("describe", "schedule")
def detail(request: HttpRequest, schedule: str) -> HttpResponse:
    """One task: how it stands, what it was declared with, when it is due, and its runs page by page."""
    card = _card(schedule)
    only = request.GET.get("only", "")
    states = next((states for name, _, states in task_words.RUN_FILTERS if name == only), ())
    before = request.GET.get("before", "")
    page = board.history(card.id, _instant(before), states, RUNS_SHOWN)
    context = _frame(request, card) | {
        "runs": [_run_row(run) for run in page.runs],
        "only": only,
        "before": before,
        "filters": [(name, label) for name, label, _ in task_words.RUN_FILTERS],
        "following": None if page.before is None else (page.before - _EPOCH) // timedelta(microseconds=1),
        "is_window_over": page.is_window_over,
        "window": board.WINDOW,
        "latest": board.LATEST,
        "most_open": board.MOST_OPEN,
        "overlap": task_words.OVERLAPS.get(card.info.overlap, card.info.overlap),
        "misfire": task_words.MISFIRES.get(card.info.misfire, card.info.misfire),
        "lock_row": _lock_row(request, card),
        "note_length": MAX_NOTE,
    }
    return render(request, "console/tasks/detail.html", context)


def _instant(microseconds: str) -> datetime:
    """Where a page of a history begins: microseconds since 1970 in its address; otherwise at the latest run."""
    if not _MICROSECONDS.fullmatch(microseconds):
        return board.LATEST_DUE
    return _EPOCH + timedelta(microseconds=int(microseconds))


def _card(name: str) -> Card:
    found = board.card(name)
    if found is None:
        raise TaskNotFound(f"there is no scheduled task {formatting.visible(name)[:NAME_LENGTH]}")
    return found


def _frame(request: HttpRequest, card: Card) -> dict[str, Any]:
    """What every page of one task needs."""
    name = formatting.visible(card.info.name)
    lock = task_words.lock_of(card)
    return {
        "title": formatting.shortened(name, 60),
        "crumbs": [("Scheduled tasks", reverse("admin:tasks")), (name, None)],
        "card": card,
        "info": card.info,
        "row": _row(request, card),
        "meaning": task_words.MEANINGS[task_words.states(card)[-1]],
        "lock": lock,
        "periodic_url": _periodic_url(request, card),
    }


def _periodic_url(request: HttpRequest, card: Card) -> str:
    """The form of the operator's periodic task behind it, for who may open that."""
    if card.periodic_task is None or not _may_see_periodic(request):
        return ""
    return reverse("admin:django_celery_beat_periodictask_change", args=[card.periodic_task])


def _lock_row(request: HttpRequest, card: Card) -> LockRow | None:
    """The lock of its runs as it stands; None: it has none, was never taken, or is not this user's to see."""
    lock = task_words.lock_of(card)
    if lock is None or not may(request, "describe", "lock", lock["name"]):
        return None
    try:
        return lock_reads.get(lock["name"])
    except LockNotFound:
        return None


def _run_row(run: RunLine) -> RunRow:
    return RunRow(run, task_words.RUN_STATES[run.state], _reason(run), run.due_at > datetime.now(UTC))


def _reason(run: RunLine) -> str:
    """The last line of an error says what was raised."""
    lines = [line.strip() for line in run.error.splitlines() if line.strip()]
    return lines[-1] if lines else ""


@require_safe
@requires("describe", "schedule")
def run(request: HttpRequest, schedule: str, run: int) -> HttpResponse:
    """One run: when it was due, began and ended, who did it, its result, its error with the stack trace."""
    card = _card(schedule)
    found = board.run(card.id, run)
    line = found.line
    name = formatting.visible(card.info.name)
    trace = stack_trace.chain(line.error, _frames(line.error))
    context = _frame(request, card) | {
        "title": f"Run {run}",
        "crumbs": [("Scheduled tasks", reverse("admin:tasks")), (name, _url(card)), (f"Run {run}", None)],
        "run": line,
        "whole": found,
        "state": task_words.RUN_STATES[line.state],
        "run_meaning": task_words.RUN_MEANINGS[line.state],
        "trigger": task_words.TRIGGERS.get(line.trigger, line.trigger),
        "trace": trace,
        "stacktrace": line.error,
        "is_open": line.state in ("ready", "running"),
        "now": datetime.now(UTC),
    }
    return render(request, "console/tasks/run.html", context)


def _frames(error: str) -> list[dict[str, Any]]:
    """Which files of a stack trace are the application's, neither of a library nor ours."""
    files = set(_FRAME_FILE.findall(error))
    return [{"file": file, "own": not (_LIBRARY.search(file) or file.startswith(_OURS))} for file in files]


def _url(card: Card) -> str:
    return reverse("admin:task", args=[card.info.name])


@require_http_methods(["GET", "HEAD", "POST"])
@requires("alter", "schedule")
def run_now(request: HttpRequest, schedule: str) -> HttpResponse:
    """Says what a run outside the schedule meets: a run under way, a lock that is held. POST asks for it."""
    card = _card(schedule)
    if request.method == "POST":
        try:
            number = control.run_now(card.info.name, actor=actor(request))
        except TaskNotFound:
            messages.warning(request, "The task is declared no more, so nothing can run it. Nothing was changed.")
            return HttpResponseRedirect(_url(card))
        messages.success(request, f"Run {number} was asked for. It begins when a worker is free and its turn comes.")
        return HttpResponseRedirect(_url(card))
    name = formatting.visible(card.info.name)
    context = _frame(request, card) | {
        "title": f"Run {formatting.shortened(name, 40)} now",
        "crumbs": [("Scheduled tasks", reverse("admin:tasks")), (name, _url(card)), ("Run now", None)],
        "lock_row": _lock_row(request, card),
        "may_see_lock": (lock := task_words.lock_of(card)) is None or may(request, "describe", "lock", lock["name"]),
    }
    return render(request, "console/tasks/run_now.html", context)


@require_POST
@requires("alter", "schedule")
def pause(request: HttpRequest, schedule: str) -> HttpResponse:
    """Pauses a task, with a note if one was typed."""
    if control.set_paused(schedule, True, _note(request), actor=actor(request)):
        messages.success(request, f"{formatting.visible(schedule)} is paused. A run that is under way goes on.")
    return _back(request, schedule)


@require_POST
@requires("alter", "schedule")
def resume(request: HttpRequest, schedule: str) -> HttpResponse:
    """Has a task go on from its next due time, with a note if one was typed."""
    if control.set_paused(schedule, False, _note(request), actor=actor(request)):
        messages.success(
            request, f"{formatting.visible(schedule)} is resumed. What was due meanwhile is not made good."
        )
    return _back(request, schedule)


@require_POST
@requires("alter", "schedule")
def skip(request: HttpRequest, schedule: str) -> HttpResponse:
    """Leaves out the due time that the page showed as the next."""
    try:
        due = datetime.fromisoformat(request.POST.get("due", ""))
        later = control.skip_next(schedule, due, actor=actor(request))
    except (ValueError, Conflict, InvalidSchedule) as error:
        why = error.detail if isinstance(error, BrokerError) else "it is not known which due time was meant"
        messages.warning(request, f"Nothing was skipped: {formatting.visible(why)}.")
    else:
        messages.success(request, f"{due:%Y-%m-%d %H:%M:%S} is left out. The next is {later:%Y-%m-%d %H:%M:%S} UTC.")
    return _back(request, schedule)


def _note(request: HttpRequest) -> str:
    return request.POST.get("note", "").replace("\0", "").strip()[:MAX_NOTE]


def _back(request: HttpRequest, schedule: str) -> HttpResponse:
    target = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure()):
        return HttpResponseRedirect(target)
    return HttpResponseRedirect(reverse("admin:task", args=[schedule]))
