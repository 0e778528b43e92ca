"""The check of what scheduled tasks did, `task_history`, passes what is right and sees each thing that may be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.task_history import LOCKED, RAN_INTO, Effect, History, Run, Schedule, problems

SECOND = timedelta(seconds=1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def ran(number: int, task: str, due: float, *, took: float = 0.1, fired: float | None = None) -> Run:
    """A run that went well."""
    when = at(due if fired is None else fired)
    ended = when + timedelta(seconds=took)
    return Run(number, task, at(due), when, "succeeded", when, ended, 1, "host:1")


class Draft:
    """A history that is right, to be spoilt."""

    def __init__(self) -> None:
        self.runs = {run.id: run for run in self._runs()}
        self.effects = {
            run.id: Effect(run.task, run.id, run.process, run.started, run.ended)
            for run in self.runs.values()
            if run.started is not None and run.state == "succeeded"
        }
        self.more: list[Effect] = []
        self.end = at(10)
        self.effects[23] = replace(self.effects[22], run=23, process="host:2", began=at(3.1), ended=None)

    def _runs(self) -> Iterator[Run]:
        yield from (ran(1 + second, "rate", second) for second in range(4))
        yield ran(5, "rate", 4, fired=7.5)  # a take-over: those of 5, 6 and 7 are made good for
        yield from (ran(second - 2, "rate", second) for second in (8, 9))
        yield from (ran(20 + second, "slow", second, took=0.5) for second in range(3))
        yield replace(ran(23, "slow", 3), state="lost", process="host:2", ended=at(6.5))
        skipped = replace(ran(24, "slow", 4), state="skipped", error=RAN_INTO, attempts=0, started=None, process="")
        yield from (
            skipped,
            replace(skipped, id=25, due=at(5), fired=at(5)),
            replace(skipped, id=26, due=at(6), fired=at(6)),
        )
        yield from (ran(20 + second, "slow", second, took=0.5) for second in (7, 8, 9))
        yield ran(40, "locked", 0.2)
        yield replace(ran(41, "locked", 1.2), state="skipped", error=LOCKED)
        yield from (ran(40 + second, "locked", second + 0.2) for second in range(2, 10))
        yield from (ran(60 + number, "delayed", 1.1 * number) for number in range(9))
        yield ran(80, "once", 0)

    def history(self) -> History:
        schedules = {
            "rate": Schedule("rate", SECOND, "allow", is_on_full_seconds=True),
            "slow": Schedule("rate", SECOND),
            "locked": Schedule("rate", SECOND, is_locked=True),
            "delayed": Schedule("delay", SECOND),
            "once": Schedule("once"),
        }
        runs, effects = list(self.runs.values()), [*self.effects.values(), *self.more]
        return History(schedules, runs, effects, frozenset({"host:2"}), self.end)

    def change(self, number: int, **facts: Any) -> None:
        self.runs[number] = replace(self.runs[number], **facts)


def _fired_twice(draft: Draft) -> None:
    draft.runs[100] = ran(100, "rate", 2)
    draft.effects[100] = replace(draft.effects[3], run=100)


def _without(draft: Draft, *numbers: int) -> None:
    for number in numbers:
        del draft.runs[number], draft.effects[number]


def _ends_later(draft: Draft) -> None:
    draft.end = at(60)


SPOILT: dict[str, tuple[Callable[[Draft], Any], str]] = {
    "a due time fired twice": (_fired_twice, "fired twice"),
    "a due time off the grid": (lambda draft: draft.change(3, due=at(2.25)), "drifts"),
    "a due time off the second": (lambda draft: draft.change(3, due=at(2.25)), "off the full second"),
    "a due time missed": (lambda draft: _without(draft, 3), "neither fired nor made good"),
    "missed times not made good for": (lambda draft: draft.change(5, fired=at(6.9)), "neither fired nor made good"),
    "fired before its time": (lambda draft: draft.change(3, fired=at(1.9)), "before it was due"),
    "fired far too late": (lambda draft: draft.change(2, fired=at(12)), "later"),
    "begun before its time": (lambda draft: draft.change(3, started=at(1.9)), "before it was due"),
    "due in the future": (lambda draft: draft.change(7, due=at(3609), fired=at(3609)), "due after the end"),
    "never fired": (lambda draft: _without(draft, 80), "never fired"),
    "one time, twice": (lambda draft: draft.runs.update({81: ran(81, "once", 5)}), "fired 2 times"),
    "a rate that stopped": (_ends_later, "rate was last fired"),
    "a task of nobody": (lambda draft: draft.change(80, task="other"), "nobody has declared"),
    "an effect twice": (lambda draft: draft.more.append(draft.effects[1]), "with 2 effects"),
    "an effect of a lost run twice": (lambda draft: draft.more.append(draft.effects[23]), "has 2 effects"),
    "an effect lost": (lambda draft: draft.effects.pop(1), "with 0 effects"),
    "half an effect": (lambda draft: draft.more.append(replace(draft.effects.pop(1), ended=None)), "0 of them whole"),
    "an effect of no run": (lambda draft: draft.more.append(replace(draft.effects[1], run=None)), "is not there"),
    "an effect of what was skipped": (
        lambda draft: draft.more.append(replace(draft.effects[22], run=24)),
        "was skipped and has",
    ),
    "an effect by another process": (lambda draft: draft.change(1, process="host:3"), "has an effect by"),
    "a run with no end": (lambda draft: draft.change(1, ended=None), "has no end"),
    "a run left over": (lambda draft: draft.change(1, state="ready"), "ready"),
    "a run that failed": (lambda draft: draft.change(1, state="failed", error="why"), "failed, why"),
    "lost by a worker that lives": (lambda draft: draft.change(23, process="host:1"), "nothing was done"),
    "two attempts": (lambda draft: draft.change(1, attempts=2), "after 2 attempts"),
    "skipped beside nothing": (
        lambda draft: draft.change(22, state="skipped", error=RAN_INTO, started=None),
        "no run of it was open",
    ),
    "skipped for no beat": (lambda draft: draft.change(41, error="no beat was running"), "because no beat"),
    "runs that exclude each other at once": (lambda draft: draft.change(20, ended=at(1.2)), "before 20 had ended"),
    "out of order": (lambda draft: draft.change(20, started=at(2.6), ended=at(2.9)), "which was due later"),
    "under a lock at once": (
        lambda draft: draft.effects.update({42: replace(draft.effects[42], ended=at(3.3))}),
        "under one lock",
    ),
    "a delay cut short": (lambda draft: draft.change(63, ended=at(3.9)), "was due 0:00:00.5"),
    "a delay that grew": (lambda draft: draft.change(63, ended=at(3.2)), "ended as succeeded"),
    "a delay that stopped": (_ends_later, "delayed is not due any more"),
}


def test_the_check_passes_what_is_right() -> None:
    assert problems(Draft().history()) == []


@pytest.mark.parametrize("what", SPOILT)
def test_the_check_sees_what_is_wrong(what: str) -> None:
    draft = Draft()
    spoil, told = SPOILT[what]
    spoil(draft)
    found = problems(draft.history())
    assert any(told in problem for problem in found), found
