"""`@scheduled`: tasks that an app declares in its `messaging.py`, and what this process knows of them.

Importing declares; `up` writes the declarations to the database (`store.declare`), the beat fires them from there, and
a worker finds the function here again by the task's name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, ParamSpec, TypeVar

from scheduling import durations
from scheduling.errors import InvalidSchedule
from scheduling.locks import scheduler_lock
from scheduling.tasks.triggers import RUN_ONCE, Cron, FixedDelay, FixedRate, Once, Trigger

P = ParamSpec("P")
T = TypeVar("T")

Duration = str | int
"""ISO 8601 (`PT30S`), Spring's short form (`30s`) or milliseconds."""
Overlap = Literal["skip", "queue", "allow"]
Misfire = Literal["run_once", "skip"]

OVERLAPS: Final = ("skip", "queue", "allow")
MISFIRES: Final = ("run_once", "skip")
MAX_NAME: Final = 200
SHORTEST_PERIOD_MS: Final = 100
DISABLED: Final = "-"
"""A cron expression that declares nothing, as Spring's."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """One schedule of one function."""

    name: str
    function: Callable[[], object]
    trigger: Trigger
    overlap: Overlap
    misfire: Misfire
    lock: str | None
    lock_at_most_for_ms: int
    lock_at_least_for_ms: int
    timeout_ms: int | None
    jitter_ms: int

    def options(self) -> dict[str, Any]:
        """What the database keeps beside the schedule: for people, and for the beat."""
        options: dict[str, Any] = {"timeout_ms": self.timeout_ms, "jitter_ms": self.jitter_ms}
        if self.lock is not None:
            options["lock"] = {
                "name": self.lock,
                "at_most_for_ms": self.lock_at_most_for_ms,
                "at_least_for_ms": self.lock_at_least_for_ms,
            }
        return options


_declared: dict[str, Declaration] = {}


def scheduled(
    *,
    fixed_rate: Duration | None = None,
    fixed_delay: Duration | None = None,
    cron: str | None = None,
    zone: str = "UTC",
    initial_delay: Duration | None = None,
    name: str | None = None,
    lock: str | None = None,
    lock_at_most_for: Duration = "PT10M",
    lock_at_least_for: Duration = 0,
    overlap: Overlap = "skip",
    misfire: Misfire = RUN_ONCE,
    timeout: Duration | None = None,
    jitter: Duration = 0,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Declares that a function without arguments runs by a schedule, once for each due time over all servers.

    Exactly one of `fixed_rate`, `fixed_delay` (from the end of the run before) and `cron` (six fields, as Spring's, in
    `zone`); `initial_delay` alone runs it one time. Durations are ISO 8601, or milliseconds. May be repeated on one
    function, each with a `name` of its own.

    `lock` names a `scheduler_lock` that a run takes, and without which it is skipped. `overlap` says what happens to a
    due time while a run has not ended: `skip`, `queue` or `allow`. `misfire` says whether due times that passed while
    no server was up are made good by one run (`run_once`) or not (`skip`). After `timeout` a run is interrupted.
    `jitter` spreads starts at random over that time. Raises `InvalidSchedule`. (After Spring's `@Scheduled`.)
    """
    trigger = _trigger(fixed_rate, fixed_delay, cron, zone, initial_delay)
    if overlap not in OVERLAPS:
        raise InvalidSchedule(f"overlap is one of {', '.join(OVERLAPS)}, not {overlap!r}")
    if misfire not in MISFIRES:
        raise InvalidSchedule(f"misfire is one of {', '.join(MISFIRES)}, not {misfire!r}")
    at_most, at_least = durations.milliseconds(lock_at_most_for), durations.milliseconds(lock_at_least_for)
    if lock is not None:
        scheduler_lock(lock, at_most, at_least)
    limit = None if timeout is None else durations.milliseconds(timeout)
    if limit == 0:
        raise InvalidSchedule("a timeout of nothing would end each run as it begins; leave it out for none")
    spread = durations.milliseconds(jitter)

    def declare(function: Callable[P, T]) -> Callable[P, T]:
        called = name or f"{function.__module__}.{function.__qualname__}"
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidSchedule(f"{called} is async; declare a plain function that runs it, with asyncio.run")
        if not 0 < len(called) <= MAX_NAME:
            raise InvalidSchedule(f"a task's name has 1 to {MAX_NAME} characters, not {len(called)}")
        there = _declared.get(called)
        if there is not None and not _is_same(there.function, function):
            raise InvalidSchedule(f"two tasks are named {called!r}; give one of them another name=")
        if trigger is not None:
            _declared[called] = Declaration(
                name=called,
                function=function,
                trigger=trigger,
                overlap=overlap,
                misfire=misfire,
                lock=lock,
                lock_at_most_for_ms=at_most,
                lock_at_least_for_ms=at_least,
                timeout_ms=limit,
                jitter_ms=spread,
            )
        return function

    return declare


def declarations() -> list[Declaration]:
    """All tasks of this process, by name."""
    return sorted(_declared.values(), key=lambda each: each.name)


def declaration(name: str) -> Declaration | None:
    """The task of that name, if this process has it."""
    return _declared.get(name)


def _trigger(
    fixed_rate: Duration | None,
    fixed_delay: Duration | None,
    cron: str | None,
    zone: str,
    initial_delay: Duration | None,
) -> Trigger | None:
    given = [each is not None for each in (fixed_rate, fixed_delay, cron)]
    if sum(given) > 1 or not (any(given) or initial_delay is not None):
        raise InvalidSchedule("give exactly one of fixed_rate, fixed_delay and cron, or initial_delay alone")
    delay = 0 if initial_delay is None else durations.milliseconds(initial_delay)
    if cron is not None:
        if initial_delay is not None:
            raise InvalidSchedule("a cron expression has no initial_delay")
        if cron.strip() == DISABLED:
            return None
        trigger = Cron(cron, zone)
        trigger.schedule()
        return trigger
    if fixed_rate is not None:
        return FixedRate(_period("fixed_rate", fixed_rate), delay)
    if fixed_delay is not None:
        return FixedDelay(durations.milliseconds(fixed_delay), delay)
    return Once(delay)


def _period(name: str, text: Duration) -> int:
    period = durations.milliseconds(text)
    if period < SHORTEST_PERIOD_MS:
        raise InvalidSchedule(f"{name} is at least {SHORTEST_PERIOD_MS} ms, not {period}")
    return period


def _is_same(one: Callable[..., object], other: Callable[..., object]) -> bool:
    """Whether it is the same function, perhaps of a module that was loaded again."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
