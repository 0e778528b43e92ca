"""The console's words for scheduled tasks, their runs and executors: states as icon, tone and word, and what they mean.

Pure; used by the views of tasks, executors and locks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from messaging_site.console import charts, formatting
from messaging_site.console.failure_words import Word
from scheduling.tasks.board import Card, Listed

CODE: Final = "code"

ACTIVE: Final = Word("ok", "ok", "Active")
RUNNING: Final = Word("info", "info", "Running")
PAUSED: Final = Word("bars", "warn", "Paused")
WITHDRAWN: Final = Word("bin", "mute", "Withdrawn")
DISABLED: Final = Word("mute", "mute", "Disabled")
OVER: Final = Word("check", "mute", "Over")

MEANINGS: Final = {
    ACTIVE: "It runs when it is due.",
    RUNNING: "A worker is at it now.",
    PAUSED: "It is not due until it is resumed. It can be run by hand.",
    WITHDRAWN: "Nothing declares it any more. Its history is kept; it is never due.",
    DISABLED: "Its periodic task is switched off or has expired.",
    OVER: "It was due one time.",
}

RUN_STATES: Final = {
    "ready": Word("clock", "mute", "Waiting"),
    "running": RUNNING,
    "succeeded": Word("check", "ok", "Succeeded"),
    "failed": Word("cross", "bad", "Failed"),
    "timed_out": Word("clock", "bad", "Timed out"),
    "skipped": Word("mute", "mute", "Skipped"),
    "lost": Word("alert", "bad", "Lost"),
    "dead": Word("stop", "bad", "Given up"),
}
RUN_MEANINGS: Final = {
    "ready": "It waits for a worker, for its turn, or for its next attempt.",
    "running": "A worker is at it now.",
    "succeeded": "The function returned.",
    "failed": "The function raised an exception.",
    "timed_out": "It took longer than its timeout, and was interrupted.",
    "skipped": "It was not done.",
    "lost": "Its worker was gone in the middle of it.",
    "dead": "All attempts are used up.",
}
TRIGGERS: Final = {"schedule": "its schedule", "operator": "an operator", "call": "a call"}

FAILED_STATES: Final = ("failed", "timed_out", "lost", "dead")
RUN_FILTERS: Final = (
    ("", "All", ()),
    ("failed", "Failed", FAILED_STATES),
    ("skipped", "Skipped", ("skipped",)),
    ("succeeded", "Succeeded", ("succeeded",)),
    ("open", "Running and waiting", ("running", "ready")),
)
"""Of a history: the parameter, its label and the states."""

FILTERS: Final = (
    ("", "All"),
    ("running", "Running"),
    ("failing", "Failed last"),
    ("paused", "Paused"),
    ("active", "Active"),
    ("withdrawn", "Withdrawn or disabled"),
    ("code", "Declared in code"),
    ("operator", "Operators' own"),
)

OVERLAPS: Final = {
    "skip": "A due time is skipped while a run has not ended.",
    "queue": "A due time waits until the run before has ended.",
    "allow": "Runs may overlap.",
}
MISFIRES: Final = {
    "run_once": "Due times that passed while no server was up are made good by one run.",
    "skip": "Due times that passed while no server was up are not made good.",
}


def matches(task: Listed, only: str) -> bool:
    """Whether a task belongs to what a filter shows."""
    match only:
        case "running":
            return task.is_running
        case "failing":
            return task.is_declared and task.last_state in FAILED_STATES
        case "paused":
            return task.paused and task.is_declared
        case "active":
            return task.is_declared and not task.paused
        case "withdrawn":
            return not task.is_declared
        case "code" | "operator":
            return task.source == only
    return True


def state(card: Card) -> Word:
    """How a task stands, beside whether it runs."""
    info = card.info
    if not info.is_declared:
        return WITHDRAWN if card.periodic_task is None else DISABLED
    if info.paused:
        return PAUSED
    is_over = info.kind == "once" and info.next_due is None and not card.running and not card.waiting
    return OVER if is_over else ACTIVE


def states(card: Card) -> list[Word]:
    """How a task stands, for a list: one word, or two while a task runs that is not simply active."""
    standing = state(card)
    if not card.running:
        return [standing]
    return [RUNNING] if standing == ACTIVE else [RUNNING, standing]


def expression(card: Card) -> str:
    """The schedule as it was written, where words alone do not say it."""
    spec = card.info.spec
    return str(spec.get("cron", "")) if card.info.kind == "cron" else ""


def lock_of(card: Card) -> dict[str, Any] | None:
    """The lock that its runs take: name, `at_most_for_ms`, `at_least_for_ms`."""
    lock: dict[str, Any] | None = card.info.options.get("lock")
    return lock


def spark(took_ms: Sequence[int], shown: int = 30) -> tuple[str, str]:
    """A line of the latest durations, and the same in words; empty without two of them."""
    latest = list(took_ms)[-shown:]
    if len(latest) < 2:
        return "", ""
    points = charts.spark_points([*latest, 0])  # which leaves the last out
    words = f"The last {len(latest)} runs took {formatting.duration(min(latest))}"
    return points, words if min(latest) == max(latest) else f"{words} to {formatting.duration(max(latest))}"
