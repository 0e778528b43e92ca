"""Durable calls at random against the real PostgreSQL: workers die, sleep, fail and succeed, in any order.

What the model must never see: a call that ends twice, an attempt without its lease that changes anything, or a dead
letter that does not agree with its call.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from brokers import FixedBackOff
from brokers.models import DeadLetter, ReplayItem
from scheduling import background, runs
from scheduling.beat import sweeping, unheard
from scheduling.durable import calls, declared, doing
from scheduling.runs import Attempt
from scheduling.worker.outcome import Outcome, kept
from tests.integration.scheduling.calling import Rings, Works, outcome_of, state_of

pytestmark = pytest.mark.django_db(transaction=True)

RETRIES = 2


class Final(Exception):
    """What may not be tried again."""


@dataclass
class Modelled:
    """One run as it has to be."""

    state: str = "ready"
    holder: Attempt | None = None
    failures: int = 0
    losses: int = 0
    attempts: int = 0
    letter: int | None = None
    """The dead letter that it is a replay of, or has become."""
    is_replay: bool = False
    held: list[Attempt] = field(default_factory=list)


index = st.integers(0, 1000)


class CallModel(RuleBasedStateMachine):
    works: Works

    def __init__(self) -> None:
        super().__init__()
        policy = FixedBackOff(interval_ms=0, max_retries=RETRIES)
        declared._declared.clear()
        self.function = background(durable=True, name="modelled", retry=policy, not_retryable=(Final,))(_nothing)
        self.runs: dict[int, Modelled] = {}

    def _pick(self, number: int) -> int:
        return sorted(self.runs)[number % len(self.runs)]

    def _attempt(self, number: int) -> Attempt | None:
        held = [attempt for run in self.runs.values() for attempt in run.held]
        return held[number % len(held)] if held else None

    @precondition(lambda self: len(self.runs) < 4)
    @rule()
    def is_called(self) -> None:
        self.runs[self.function().id] = Modelled()

    @precondition(lambda self: self.runs)
    @rule(number=index)
    def is_begun(self, number: int) -> None:
        run = self._pick(number)
        model = self.runs[run]
        self.works.rows("update scheduling_run set next_at = clock_timestamp() where id = %s and state = 'ready'", run)
        attempt = self.works.claim(run)
        assert (attempt is not None) == (model.state == "ready")
        if attempt is not None:
            model.state, model.holder = "running", attempt
            model.attempts += 1
            model.held.append(attempt)

    @precondition(lambda self: self.runs)
    @rule(number=index)
    def lapses(self, number: int) -> None:
        run = self._pick(number)
        model = self.runs[run]
        self.works.lose(run)
        if model.state == "running":
            model.losses += 1
            model.holder = None
            model.state = "dead" if model.losses == runs.MAX_LOSSES else "ready"

    @rule(number=index)
    def is_kept(self, number: int) -> None:
        attempt = self._attempt(number)
        if attempt is not None:
            held = self.runs[attempt.id].holder is attempt
            assert (attempt.token in runs.extend(self.works.own, [attempt])) == held

    @rule(number=index)
    def succeeds(self, number: int) -> None:
        attempt = self._attempt(number)
        if attempt is not None:
            self._ends(attempt, kept(attempt.number), runs.SUCCEEDED)

    @rule(number=index, is_final=st.booleans())
    def fails(self, number: int, is_final: bool) -> None:
        attempt = self._attempt(number)
        if attempt is not None:
            model = self.runs[attempt.id]
            is_last = is_final or model.failures == RETRIES
            error: Exception = Final("no") if is_final else LookupError("not yet")
            if self._ends(attempt, Outcome(runs.FAILED, raised=error), "dead" if is_last else "ready"):
                model.failures += 1

    def _ends(self, attempt: Attempt, outcome: Outcome, state: str) -> bool:
        model = self.runs[attempt.id]
        found = doing.find(attempt, lambda: False).end(self.works.own, outcome)
        if model.holder is not attempt:
            assert found is None
            return False
        assert found == state
        model.state, model.holder = state, None
        return True

    @precondition(lambda self: any(run.state == "dead" for run in self.runs.values()))
    @rule(number=index)
    def is_replayed(self, number: int) -> None:
        dead = [run for run, model in sorted(self.runs.items()) if model.state == "dead"]
        letter = calls.get(dead[number % len(dead)]).dead_letter_id
        assert letter is not None
        if state_of(letter) == "open":
            self.works.replay(letter)
            self.runs[self.works.again(letter)] = Modelled(letter=letter, is_replay=True)

    @invariant()
    def rows_are_as_they_have_to_be(self) -> None:
        for run, model in self.runs.items():
            found = calls.get(run)
            assert (found.state, found.attempts, found.losses) == (model.state, model.attempts, model.losses)
            assert (found.ended_at is not None) == (model.state in ("succeeded", "dead"))
            if model.state == "dead":
                assert model.letter in (None, found.dead_letter_id)
                model.letter = found.dead_letter_id
        newest = {model.letter: model for _, model in sorted(self.runs.items()) if model.letter is not None}
        assert DeadLetter.objects.count() == len(newest)
        for letter, model in newest.items():
            wanted = {"dead": "open", "succeeded": "replayed"}.get(model.state, "replaying")
            assert state_of(letter or 0) == wanted
            if model.is_replay:
                outcome = {"dead": "failed_again", "succeeded": "succeeded"}.get(model.state, "waiting")
                assert outcome_of(letter or 0)[0] == outcome

    def teardown(self) -> None:
        """The next example begins with nothing."""
        self.works.rows("truncate scheduling_run, scheduling_runattempt")
        ReplayItem.objects.all().delete()
        DeadLetter.objects.all().delete()


def _nothing() -> None:
    """What is called."""


def test_calls_end_once_whatever_happens_to_their_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    rings = Rings()
    for module in (calls, sweeping):
        monkeypatch.setattr(module, "doorbell", rings)
    monkeypatch.setattr(unheard, "count", lambda: 0)
    monkeypatch.setattr(declared, "_declared", {})
    works = Works(rings)
    monkeypatch.setattr(CallModel, "works", works, raising=False)
    try:
        run_state_machine_as_test(
            CallModel,
            settings=settings(
                max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        works.close()
