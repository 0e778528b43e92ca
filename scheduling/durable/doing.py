"""What a worker does with a durable call: the function with its arguments, and what follows when that has ended.

A failure is tried again by the function's policy, and given up after that. A result is written down with whatever a
replay waits for. Called by `worker.work`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from django.db import transaction

from brokers import failure
from brokers.database import store_errors
from brokers.replays import tasks
from brokers.retries.backoff import ExponentialBackOff
from brokers.retries.decision import Policy, Retry, decide
from scheduling import runs
from scheduling.connections import OwnConnection
from scheduling.durable import calls, current, declared, giving_up, store
from scheduling.durable.current import CurrentCall
from scheduling.durable.errors import FunctionNotFound
from scheduling.runs import Attempt
from scheduling.worker.outcome import Outcome

UNKNOWN: Final = Policy(
    ExponentialBackOff(initial_interval_ms=5000, multiplier=2.0, max_interval_ms=60_000, max_retries=10)
)
"""How a call of a function is tried again that the worker does not have: seven minutes, for a deployment to end."""


@dataclass(frozen=True, slots=True)
class Doing:
    """One attempt at a call."""

    attempt: Attempt
    declaration: declared.Declaration | None
    """None where this process has no such function."""
    is_lost: Callable[[], bool]

    @property
    def timeout_seconds(self) -> float | None:
        """After which the attempt is interrupted."""
        timeout_ms = None if self.declaration is None else self.declaration.timeout_ms
        return None if timeout_ms is None else timeout_ms / 1000

    def call(self) -> object:
        """Calls the function; raises what it raises, and `FunctionNotFound`."""
        if self.declaration is None:
            raise FunctionNotFound(
                f"this worker has no durable function {self.attempt.function!r}: its release is another than the"
                f" caller's, or the function's app is not in WAYSTATION_APPS"
            )
        args, kwargs = self.attempt.arguments
        function = self.declaration.function
        with current.entered(CurrentCall(self.attempt.id, self.attempt.function, self.attempt.number, self.is_lost)):
            result = function(*args, **kwargs)
            return asyncio.run(result) if inspect.iscoroutine(result) else result

    def end(self, connection: OwnConnection, outcome: Outcome) -> str | None:
        """Writes down how it ended; the state that the call is in, None when the attempt had lost it.

        Raises `Unavailable`.
        """
        if outcome.raised is None:
            return runs.SUCCEEDED if self._succeed(connection, outcome) else None
        policy = UNKNOWN if self.declaration is None else self.declaration.policy
        described = failure.describe(outcome.raised)
        decision = decide(policy, outcome.raised, self._earlier())
        if isinstance(decision, Retry):
            return calls.READY if runs.retry(connection, self.attempt, described, decision.delay_ms) else None
        return runs.DEAD if giving_up.give_up(self.attempt, described, decision.reason) else None

    def _succeed(self, connection: OwnConnection, outcome: Outcome) -> bool:
        if self.attempt.dead_letter_id is None:
            done = runs.finish(connection, self.attempt, runs.SUCCEEDED, result=outcome.result, error=outcome.not_kept)
        else:
            done = self._succeed_again(self.attempt.dead_letter_id, outcome)
        if done:
            calls.announce_end(self.attempt.id)
        return done

    def _succeed_again(self, dead_letter: int, outcome: Outcome) -> bool:
        """The end of a call that a replay has made: its item and its dead letter change with it."""
        with store_errors(), transaction.atomic():
            locked = store.lock(self.attempt.id, self.attempt.token)
            if locked is None:
                return False
            store.succeed(locked.id, outcome.result, outcome.not_kept)
            if locked.replay_item_id is not None:
                tasks.succeeded(locked.replay_item_id, dead_letter)
        return True

    def _earlier(self) -> Sequence[str]:
        """The classes of the failures before this one, as far as the policy looks at them."""
        same = self.attempt.same_failures
        return [""] * (self.attempt.failures - same) + [self.attempt.exception_class] * same


def find(attempt: Attempt, is_lost: Callable[[], bool]) -> Doing:
    """What to do for an attempt at a durable call."""
    return Doing(attempt, declared.declaration(attempt.function), is_lost)
