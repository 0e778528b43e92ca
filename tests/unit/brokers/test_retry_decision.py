"""Whether a failed record is tried again: Spring's own cases, classification, and that it always ends."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.errors import InvalidType, InvalidValue
from brokers.failure import class_name, describe
from brokers.retries.backoff import MAX_DELAY_MS, ExponentialBackOff, FixedBackOff
from brokers.retries.decision import RESTARTS, GiveUp, Policy, Retry, decide

EXHAUSTED = GiveUp("attempts_exhausted")
NOT_RETRYABLE = GiveUp("exception")


class Tracker:
    """Spring's FailedRecordTracker over `decide`: for each partition, the failures of the offset that is failing."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.failing: dict[str, tuple[int, list[str]]] = {}

    def skip(self, partition: str, offset: int, error: BaseException) -> bool:
        """Whether the record is recovered, that is, given up."""
        at, earlier = self.failing.get(partition, (offset, []))
        if at != offset:
            earlier = []
        decision = decide(self.policy, error, earlier)
        self.failing[partition] = (offset, [*earlier, class_name(type(error))])
        if isinstance(decision, GiveUp):
            del self.failing[partition]
        return isinstance(decision, GiveUp)


def skips(policy: Policy, failures: str, error: type[Exception] = RuntimeError) -> list[bool]:
    tracker = Tracker(policy)
    places = [place.split("@") for place in failures.split()]
    return [tracker.skip(partition, int(offset), error()) for partition, offset in places]


@pytest.mark.parametrize(
    ("max_retries", "failures", "skipped"),
    [
        (0, "foo-0@0", "T"),
        (3, "foo-0@0 foo-0@0 foo-0@0 foo-0@0", "FFFT"),
        (2, "foo-0@0 foo-1@0 foo-0@0 foo-1@0 foo-0@0 foo-1@0", "FFFFTT"),
        (1, "foo-0@0 bar-0@0 bar-1@0 bar-1@1 bar-1@1", "FFFFT"),
    ],
    ids=["no retries", "failure after failure", "two partitions by turns", "another offset begins anew"],
)
def test_as_in_springs_failed_record_tracker(max_retries: int, failures: str, skipped: str) -> None:
    assert skips(Policy(FixedBackOff(0, max_retries)), failures) == [letter == "T" for letter in skipped]


def deliveries(policy: Policy, errors: list[BaseException], most: int = 1000) -> list[int | str]:
    """Delays, then the reason, of a record that fails with these errors in turn, over and over."""
    earlier: list[str] = []
    told: list[int | str] = []
    for index in range(most):
        error = errors[index % len(errors)]
        decision = decide(policy, error, earlier)
        if isinstance(decision, GiveUp):
            return [*told, decision.reason]
        told.append(decision.delay_ms)
        earlier.append(describe(error).exception_class)
    raise AssertionError("it never ended")


@given(st.integers(0, 30))
def test_a_record_is_delivered_once_more_than_it_is_retried(max_retries: int) -> None:
    told = deliveries(Policy(FixedBackOff(7, max_retries)), [ValueError()])
    assert told == [7] * max_retries + ["attempts_exhausted"]


def test_the_default_of_spring_is_ten_deliveries() -> None:
    assert len(deliveries(Policy(FixedBackOff(0, 9)), [KeyError("x")])) == 10


def test_another_exception_begins_the_back_off_anew() -> None:
    policy = Policy(ExponentialBackOff(100, 2, 10_000, 3))
    told = deliveries(policy, [ValueError(), ValueError(), KeyError(), KeyError(), KeyError(), KeyError()])
    assert told == [100, 200, 100, 200, 400, "attempts_exhausted"]


def test_another_message_does_not() -> None:
    assert deliveries(Policy(FixedBackOff(0, 2)), [ValueError("a"), ValueError("b")]) == [0, 0, "attempts_exhausted"]


@given(st.integers(0, 12), st.lists(st.sampled_from([KeyError, ValueError, OSError, TypeError]), min_size=1))
def test_exceptions_that_change_for_ever_end_too(max_retries: int, classes: list[type[Exception]]) -> None:
    told = deliveries(Policy(FixedBackOff(0, max_retries)), [each() for each in classes])
    assert max_retries + 1 <= len(told) <= RESTARTS * (max_retries + 1)
    assert told[-1] == "attempts_exhausted"


def test_without_a_limit_it_is_tried_for_ever() -> None:
    assert decide(Policy(FixedBackOff(5)), ValueError(), ["builtins.KeyError", "builtins.ValueError"] * 5000) == Retry(
        5
    )


# -- classification ---------------------------------------------------------------------------------------------


class OutOfStock(Exception):
    """An application's own."""


class SoldOut(OutOfStock):
    """A kind of it."""


def chained(*errors: BaseException) -> BaseException:
    """Each raised from the one behind it."""
    for outer, inner in pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


def raised_while_handling(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__context__ = inner
    return outer


@pytest.mark.parametrize(
    ("retryable", "not_retryable", "error", "tried_again"),
    [
        ((), (), ValueError(), True),
        ((), (ValueError,), ValueError(), False),
        ((), (ValueError,), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), False),
        ((), (ValueError,), KeyError(), True),
        ((OSError,), (), OSError(), True),
        ((OSError,), (), TimeoutError(), True),
        ((OSError,), (), KeyError(), False),
        ((TimeoutError,), (OSError,), TimeoutError(), True),
        ((TimeoutError,), (OSError,), ConnectionError(), False),
        ((OSError,), (TimeoutError,), TimeoutError(), False),
        ((OSError,), (TimeoutError,), ConnectionError(), True),
        ((), (OutOfStock,), SoldOut(), False),
        ((), (Exception,), SystemExit(), True),
        ((), (BaseException,), SystemExit(), False),
        ((), (KeyError,), chained(RuntimeError(), KeyError()), False),
        ((), (KeyError,), chained(RuntimeError(), OSError(), KeyError()), False),
        ((RuntimeError,), (KeyError,), chained(RuntimeError(), KeyError()), True),
        ((KeyError,), (), chained(RuntimeError(), KeyError()), True),
        ((), (KeyError,), raised_while_handling(RuntimeError(), KeyError()), True),
        ((), (KeyError,), ExceptionGroup("two", [OSError(), KeyError()]), False),
        ((OSError,), (), ExceptionGroup("two", [OSError(), ExceptionGroup("one", [TimeoutError()])]), True),
        ((OSError,), (), ExceptionGroup("one", [KeyError()]), False),
        ((), (ExceptionGroup,), ExceptionGroup("one", [KeyError()]), False),
    ],
)
def test_what_is_tried_again(
    retryable: tuple[type[BaseException], ...],
    not_retryable: tuple[type[BaseException], ...],
    error: BaseException,
    tried_again: bool,
) -> None:
    decision = decide(Policy(FixedBackOff(0, 1), retryable, not_retryable), error, [])
    assert decision == (Retry(0) if tried_again else NOT_RETRYABLE)


def test_what_is_not_retryable_is_so_at_whichever_attempt_it_comes() -> None:
    policy = Policy(FixedBackOff(0, 5), not_retryable=(KeyError,))
    assert decide(policy, KeyError(), ["builtins.ValueError"] * 2) == NOT_RETRYABLE


def test_causes_that_go_round_or_on_and_on_end() -> None:
    round_about = RuntimeError()
    round_about.__cause__ = round_about
    long = chained(*(RuntimeError() for _ in range(5000)), KeyError())
    for error in (round_about, long):
        assert decide(Policy(FixedBackOff(0, 1), not_retryable=(KeyError,)), error, []) == Retry(0)


def test_a_group_of_very_many_ends() -> None:
    group: Exception = KeyError()
    for _ in range(2000):
        group = ExceptionGroup("deep", [group])
    wide = ExceptionGroup("wide", [OSError()] * 5000)
    for error in (group, wide):
        assert decide(Policy(FixedBackOff(0, 1), not_retryable=(KeyError,)), error, []) == Retry(0)


class Odd:
    """A back-off of a user's own, with answers that need care."""

    max_retries = None

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def delay_ms(self, retry: int) -> Any:
        return self.answer


@pytest.mark.parametrize(("answer", "delay"), [(-5, 0), (2.9, 2), (10**18, MAX_DELAY_MS)])
def test_a_back_off_of_ones_own_is_kept_within_bounds(answer: Any, delay: int) -> None:
    assert decide(Policy(Odd(answer)), ValueError(), []) == Retry(delay)


def test_a_back_off_of_ones_own_ends_by_answering_none() -> None:
    assert decide(Policy(Odd(None)), ValueError(), []) == EXHAUSTED


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"back_off": 5}, InvalidType, "delay_ms"),
        ({"retryable": ValueError}, InvalidType, "retryable is a tuple of exception classes"),
        ({"not_retryable": [ValueError]}, InvalidType, "not_retryable is a tuple"),
        ({"retryable": ("ValueError",)}, InvalidType, "'ValueError', which is no exception class"),
        ({"not_retryable": (int,)}, InvalidType, "no exception class"),
        ({"retryable": (KeyError,), "not_retryable": (KeyError,)}, InvalidValue, "builtins.KeyError cannot be both"),
        ({"blocking": "no"}, InvalidType, "blocking is True or False"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Policy(**{"back_off": FixedBackOff()} | arguments)
