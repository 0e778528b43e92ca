"""Looking at a replay until it is over: its progress as a bar, its outcome in words. For commands and examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from brokers.instants import rfc3339
from brokers.selectors import replays as selector
from brokers.selectors.replays import ReplaySummary
from brokers.terminal import Stop
from brokers.wakeup import Subscription

LOOK_SECONDS: Final = 0.25
_OVER: Final = ("completed", "cancelled", "stopped")


def is_over(replay: ReplaySummary) -> bool:
    """Whether nothing more will be sent and each dead letter sent has its outcome."""
    return replay.state in _OVER and replay.waiting <= 0


def watch(replay_id: int, stop: Stop) -> Iterator[ReplaySummary]:
    """The replay as it is, again and again, until it is over or `stop` is set; the last one is how it is then.

    Raises `ReplayNotFound`.
    """
    with Subscription() as hints:
        while True:
            replay = selector.get(replay_id)
            yield replay
            if stop or is_over(replay):
                return
            hints.wait_for(["r"], LOOK_SECONDS)


def bar(console: Console) -> Progress:
    """A bar for `show`, where the console is a terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[standing]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def show(progress: Progress, replay_id: int, stop: Stop) -> ReplaySummary:
    """Draws the bar until the replay is over or `stop` is set; how it is then."""
    task = progress.add_task(f"replay {replay_id}", total=None, standing="")
    for replay in watch(replay_id, stop):
        standing = ", ".join(part for part in (_unless_running(replay), _failed_again(replay)) if part)
        progress.update(task, total=replay.total, completed=replay.done, standing=standing)
    return replay


def _unless_running(replay: ReplaySummary) -> str:
    return "" if replay.state in ("running", "completed") else replay.state


def _failed_again(replay: ReplaySummary) -> str:
    return f"{replay.failed_again:,} failed again" if replay.failed_again else ""


def outcome(replay: ReplaySummary) -> str:
    """How it stands, in one line."""
    text = (
        f"replay {replay.id} {replay.state}: {replay.succeeded:,} succeeded,"
        f" {replay.failed_again:,} failed again, {replay.skipped:,} skipped"
    )
    if replay.waiting > 0:
        text += f", {replay.waiting:,} waiting"
    return f"{text} ({replay.stop_cause})" if replay.stop_cause else text


def replay_json(replay: ReplaySummary) -> dict[str, Any]:
    """The replay with the members and names that REST gives it."""
    return {
        "id": replay.id,
        "state": replay.state,
        "total": replay.total,
        "sent": replay.sent,
        "succeeded": replay.succeeded,
        "failed_again": replay.failed_again,
        "skipped": replay.skipped,
        "waiting": replay.waiting,
        "selection": replay.selection,
        "target": replay.target,
        "rate_per_second": replay.rate_per_second,
        "reason": replay.reason,
        "created_by": replay.created_by,
        "created_at": rfc3339(replay.created_at),
        "finished_at": rfc3339(replay.finished_at),
        "stop_cause": replay.stop_cause,
    }
