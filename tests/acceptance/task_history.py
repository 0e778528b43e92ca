"""What scheduled tasks did, and what is wrong with it: a check of a whole history, told by the database afterwards.

A function of what was seen, tested with histories that are wrong (`test_scheduled_tasks_under_faults.py`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, Literal

LATE: Final = timedelta(seconds=10)
"""How late a due time may be fired: a beat was killed, and its lease of four seconds had to lapse."""
REVIVED: Final = timedelta(seconds=20)
"""How long a fixed delay may take to count after a run that was lost: a sweep, and perhaps a take-over."""
INSTANT: Final = timedelta(milliseconds=50)
"""Between two looks at the clock in one statement, and between a statement's snapshot and its end."""
RAN_INTO: Final = "the run before had not ended"
LOCKED: Final = "the lock ticking was held by another"


@dataclass(frozen=True)
class Schedule:
    """How a task is declared."""

    kind: Literal["rate", "delay", "once"]
    period: timedelta = timedelta()
    overlap: Literal["skip", "queue", "allow"] = "skip"
    is_locked: bool = False
    is_on_full_seconds: bool = False


@dataclass(frozen=True)
class Run:
    """A row of a run, and when it was inserted."""

    id: int
    task: str
    due: datetime
    fired: datetime
    state: str
    started: datetime | None
    ended: datetime | None
    attempts: int
    process: str
    error: str = ""


@dataclass(frozen=True)
class Effect:
    """What a task's function has written."""

    task: str
    run: int | None
    process: str
    began: datetime
    ended: datetime | None


@dataclass(frozen=True)
class History:
    """All there is in the end."""

    schedules: Mapping[str, Schedule]
    runs: Sequence[Run]
    effects: Sequence[Effect]
    victims: frozenset[str]
    """Processes, as runs name them, that were killed, or stopped for longer than a run's lease."""
    paused_at: datetime
    """When all tasks were paused: nothing was fired from then on."""
    before: Sequence[Run] = ()
    """Runs that were fired before all was observed, as far as it is known when."""

    def of(self, task: str) -> list[Run]:
        """A task's runs by their due times."""
        return sorted((run for run in self.runs if run.task == task), key=lambda run: (run.due, run.id))


def problems(history: History) -> list[str]:
    """What is wrong."""
    found = [*_of_runs(history), *_of_effects(history), *_of_locks(history)]
    for task, schedule in history.schedules.items():
        runs = history.of(task)
        if not runs:
            found.append(f"{task} was never fired")
            continue
        found += _of_overlaps(task, schedule, runs)
        match schedule.kind:
            case "rate":
                found += _of_rate(task, schedule, runs, history.paused_at)
            case "delay":
                found += _of_delay(task, schedule, runs, history.paused_at)
            case "once":
                if len(runs) != 1:
                    found.append(f"{task} was fired {len(runs)} times")
    return found


def _of_runs(history: History) -> Iterator[str]:
    for run in history.runs:
        what = f"{run.task} {run.id} of {run.due:%X.%f}"
        if run.task not in history.schedules:
            yield f"{what}: nobody has declared it"
        if run.fired < run.due or (run.started is not None and run.started < run.due):
            yield f"{what}: fired at {run.fired:%X.%f}, begun at {run.started}, before it was due"
        if run.due > history.paused_at:
            yield f"{what}: it was due after the end"
        if run.state not in ("succeeded", "skipped", "lost"):
            yield f"{what}: {run.state}, {run.error[-300:]}"
        elif run.state == "lost" and run.process not in history.victims:
            yield f"{what}: lost by {run.process}, to which nothing was done"
        if run.ended is None:
            yield f"{what}: it has no end"
        if run.attempts > 1 or (run.attempts == 0 and run.state != "skipped"):
            yield f"{what}: {run.state} after {run.attempts} attempts"
        if run.state == "skipped" and run.error not in (RAN_INTO, LOCKED):
            yield f"{what}: skipped because {run.error}"
        if run.error == RAN_INTO and not any(_is_open(other, run) for other in (*history.runs, *history.before)):
            yield f"{what}: skipped, and no run of it was open"


def _is_open(other: Run, run: Run) -> bool:
    """Whether another run of the task had not ended when this one was fired."""
    return (
        other.task == run.task
        and other.id != run.id
        and other.error != RAN_INTO
        and other.fired <= run.fired
        and (other.ended is None or other.ended >= run.fired - INSTANT)
    )


def _of_effects(history: History) -> Iterator[str]:
    by_run: dict[int | None, list[Effect]] = defaultdict(list)
    for effect in history.effects:
        by_run[effect.run].append(effect)
    known = {run.id: run for run in history.runs}
    for number, effects in by_run.items():
        if number not in known:
            yield f"{len(effects)} effects of the run {number} of {effects[0].task}, which is not there"
    for run in history.runs:
        effects = by_run[run.id]
        whole = sum(effect.ended is not None for effect in effects)
        if run.state == "succeeded" and (len(effects), whole) != (1, 1):
            yield f"{run.task} {run.id} succeeded with {len(effects)} effects, {whole} of them whole"
        if run.state == "skipped" and effects:
            yield f"{run.task} {run.id} was skipped and has {len(effects)} effects"
        if len(effects) > 1:
            yield f"{run.task} {run.id} has {len(effects)} effects"
        for effect in effects:
            if (effect.task, effect.process) != (run.task, run.process):
                yield f"{run.task} {run.id} of {run.process} has an effect by {effect.task} in {effect.process}"


def _of_locks(history: History) -> Iterator[str]:
    locked = [effect for effect in history.effects if history.schedules[effect.task].is_locked]
    latest: Effect | None = None
    for effect in sorted(locked, key=lambda effect: effect.began):
        if latest is not None and latest.ended is not None and effect.began < latest.ended:
            yield f"{latest.task} {latest.run} and {effect.task} {effect.run} ran under one lock at once"
        if effect.ended is not None and (latest is None or latest.ended is None or latest.ended < effect.ended):
            latest = effect


def _of_overlaps(task: str, schedule: Schedule, runs: Sequence[Run]) -> Iterator[str]:
    if schedule.overlap == "allow":
        return
    begun = sorted((run for run in runs if run.started is not None), key=lambda run: run.started or run.due)
    for one, other in pairwise(begun):
        if one.ended is not None and other.started is not None and other.started < one.ended:
            yield f"{task}: {other.id} began before {one.id} had ended"
        if other.due < one.due:
            yield f"{task}: {other.id} ran behind {one.id}, which was due later"


def _of_rate(task: str, schedule: Schedule, runs: Sequence[Run], end: datetime) -> Iterator[str]:
    twice = [due for due, times in Counter(run.due for run in runs).items() if times > 1]
    yield from (f"{task} was fired twice for {due:%X.%f}" for due in twice)
    if schedule.is_on_full_seconds and any(
        run.due.microsecond or run.due.second % schedule.period.seconds for run in runs
    ):
        yield f"{task} was due off the full second"
    for run in runs:
        if (run.due - runs[0].due) % schedule.period:
            yield f"{task} drifts: due at {run.due:%X.%f}"
        if run.fired - run.due > LATE:
            yield f"{task} was due at {run.due:%X.%f} and fired {run.fired - run.due} later"
    for run, later in pairwise(runs):
        last_missed = later.due - schedule.period
        if last_missed > run.due and run.fired < last_missed:
            yield f"{task} was due at {last_missed:%X.%f}, and neither fired nor made good for by a later run"
    if runs[-1].fired + schedule.period < end - LATE:
        yield f"{task} was last fired at {runs[-1].fired:%X.%f}, long before the end at {end:%X.%f}"


def _of_delay(task: str, schedule: Schedule, runs: Sequence[Run], end: datetime) -> Iterator[str]:
    for run, later in pairwise(runs):
        if run.ended is None:
            continue
        late = later.due - run.ended - schedule.period
        if late < -INSTANT:
            yield f"{task} was due {later.due - run.ended} after its run {run.id}"
        if late > (REVIVED if run.state == "lost" else INSTANT):
            yield f"{task} was due {later.due - run.ended} after its run {run.id}, which ended as {run.state}"
    for run in runs:
        if run.fired - run.due > LATE:
            yield f"{task} was due at {run.due:%X.%f} and fired {run.fired - run.due} later"
    if (runs[-1].ended or runs[-1].fired) < end - REVIVED - LATE:
        yield f"{task} is not due any more"
