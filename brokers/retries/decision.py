"""Whether a record whose handler failed is tried again, and when: the rule, apart from clocks and tables.

An exception is classified by its class or the nearest ancestor that the policy names; where it names none, by what
caused it (`raise ... from`), and an exception group by its members. As in Spring, a failure of another class than the
one before begins the back-off anew; but no record gets more than `RESTARTS` times the deliveries of its back-off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from brokers.errors import InvalidType, InvalidValue, shown
from brokers.failure import class_name
from brokers.retries.backoff import MAX_DELAY_MS, BackOff

RESTARTS = 4
"""Deliveries of one record at most, in multiples of what its back-off allows."""
_LOOKED_AT = 100
"""Causes and members of one exception that are looked at."""

EXCEPTION = "exception"
"""Given up because trying again cannot help."""
ATTEMPTS_EXHAUSTED = "attempts_exhausted"
"""Given up because the retries are used up."""

Classes = tuple[type[BaseException], ...]


class Retry(NamedTuple):
    """Try again after so many milliseconds."""

    delay_ms: int


class GiveUp(NamedTuple):
    """Make it a dead letter; `reason` is the dead letter's."""

    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """How a listener retries.

    With `retryable` given, only those are tried again; else all but `not_retryable`. Of two classes that both fit, the
    nearer one decides: `retryable=(TimeoutError,), not_retryable=(OSError,)` tries again after a timeout.
    """

    back_off: BackOff
    retryable: Classes = ()
    not_retryable: Classes = ()
    blocking: bool = True
    """Whether the partition waits for the record; else it is parked in the redelivery lane."""

    def __post_init__(self) -> None:
        """Raises `InvalidType` and `InvalidValue`."""
        if not callable(getattr(self.back_off, "delay_ms", None)):
            raise InvalidType(f"a back-off has a method delay_ms(retry), and {shown(self.back_off)} has none")
        for name, classes in (("retryable", self.retryable), ("not_retryable", self.not_retryable)):
            if not isinstance(classes, tuple):
                raise InvalidType(f"{name} is a tuple of exception classes, not {shown(classes)}")
            for each in classes:
                if not isinstance(each, type) or not issubclass(each, BaseException):
                    raise InvalidType(f"{name} holds {shown(each)}, which is no exception class")
        both = set(self.retryable) & set(self.not_retryable)
        if both:
            names = ", ".join(sorted(map(class_name, both)))
            raise InvalidValue(f"{names} cannot be both retryable and not retryable")
        if not isinstance(self.blocking, bool):
            raise InvalidType(f"blocking is True or False, not {shown(self.blocking)}")


def decide(policy: Policy, error: BaseException, earlier: Sequence[str]) -> Retry | GiveUp:
    """What to do after a failure.

    `earlier` are the exception classes of the failed attempts before this one, oldest first, as `failure.describe`
    names them; attempts in which the worker was lost are not among them.
    """
    if not is_retryable(policy, error):
        return GiveUp(EXCEPTION)
    if _too_many(policy.back_off, len(earlier) + 1):
        return GiveUp(ATTEMPTS_EXHAUSTED)
    delay = policy.back_off.delay_ms(1 + _same_before(class_name(type(error)), earlier))
    if delay is None:
        return GiveUp(ATTEMPTS_EXHAUSTED)
    return Retry(max(0, min(int(delay), MAX_DELAY_MS)))


def is_retryable(policy: Policy, error: BaseException) -> bool:
    """Whether trying again may help, as far as the policy says."""
    verdicts = [found for each in _members(error) if (found := _verdict(policy, each)) is not None]
    return all(verdicts) if verdicts else not policy.retryable


def _members(error: BaseException) -> list[BaseException]:
    """The exception itself; of a group that is caught as such, also those in it."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting and len(found) < _LOOKED_AT:
        each = waiting.pop()
        found.append(each)
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions[:_LOOKED_AT]
    return found


def _verdict(policy: Policy, error: BaseException | None) -> bool | None:
    """What the policy says of an exception or, where it says nothing, of its causes."""
    for _ in range(_LOOKED_AT):
        if error is None:
            break
        for ancestor in type(error).__mro__:
            if ancestor in policy.not_retryable:
                return False
            if ancestor in policy.retryable:
                return True
        error = error.__cause__
    return None


def _too_many(back_off: BackOff, deliveries: int) -> bool:
    limit = getattr(back_off, "max_retries", None)
    return limit is not None and deliveries >= RESTARTS * (limit + 1)


def _same_before(name: str, earlier: Sequence[str]) -> int:
    """How many attempts in a row, up to the newest, failed with that class."""
    count = 0
    for other in reversed(earlier):
        if other != name:
            break
        count += 1
    return count
