"""How long a retry waits: Spring's back-offs by their names, their limits, and what is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers import ExponentialBackOff, FixedBackOff
from brokers.errors import InvalidType, InvalidValue
from brokers.retries.backoff import MAX_DELAY_MS, BackOff

retries = st.integers(1, 10_000)
fractions = st.floats(0, 1)


@st.composite
def exponential(draw: st.DrawFn, jitter: st.SearchStrategy[float] = fractions) -> ExponentialBackOff:
    longest = draw(st.integers(1, MAX_DELAY_MS))
    return ExponentialBackOff(
        initial_interval_ms=draw(st.integers(1, longest)),
        multiplier=draw(st.floats(1, 1e6)),
        max_interval_ms=longest,
        max_retries=draw(st.none() | st.integers(0, 20)),
        jitter=draw(jitter),
        source=random.Random(draw(st.integers())).random,
    )


fixed = st.builds(FixedBackOff, st.integers(0, MAX_DELAY_MS), st.none() | st.integers(0, 20))


def delays(back_off: BackOff, count: int) -> list[int | None]:
    return [back_off.delay_ms(retry) for retry in range(1, count + 1)]


def test_the_defaults_are_springs() -> None:
    assert FixedBackOff() == FixedBackOff(interval_ms=5000, max_retries=None)
    assert delays(FixedBackOff(), 3) == [5000, 5000, 5000]
    assert delays(ExponentialBackOff(), 9) == [2000, 3000, 4500, 6750, 10125, 15187, 22781, 30_000, 30_000]


def test_retries_are_counted_beyond_the_first_delivery() -> None:
    assert delays(FixedBackOff(1000, 2), 4) == [1000, 1000, None, None]
    assert delays(ExponentialBackOff(100, 2, 1000, 3), 5) == [100, 200, 400, None, None]
    assert FixedBackOff(0, 0).delay_ms(1) is None


def test_a_pause_stops_growing_at_its_limit_however_often_it_is_tried() -> None:
    assert ExponentialBackOff(1, 1e6, 60_000).delay_ms(10**9) == 60_000


@given(st.one_of(fixed, exponential()), retries)
def test_a_pause_is_never_negative_and_never_above_the_limit(back_off: BackOff, retry: int) -> None:
    delay = back_off.delay_ms(retry)
    if back_off.max_retries is not None and retry > back_off.max_retries:
        assert delay is None
        return
    assert delay is not None
    most = back_off.max_interval_ms if isinstance(back_off, ExponentialBackOff) else MAX_DELAY_MS
    assert 0 <= delay <= most


@given(exponential(jitter=st.just(0.0)), retries)
def test_without_jitter_a_pause_is_never_shorter_than_the_one_before(back_off: ExponentialBackOff, retry: int) -> None:
    before, after = back_off.delay_ms(retry), back_off.delay_ms(retry + 1)
    assert before is None or after is None or before <= after


@given(exponential(), retries)
def test_jitter_stays_within_its_fraction(back_off: ExponentialBackOff, retry: int) -> None:
    exact = ExponentialBackOff(
        back_off.initial_interval_ms, back_off.multiplier, back_off.max_interval_ms, back_off.max_retries
    ).delay_ms(retry)
    delay = back_off.delay_ms(retry)
    if exact is None:
        assert delay is None
    else:
        assert delay is not None
        assert abs(delay - exact) <= exact * back_off.jitter


def test_jitter_reaches_both_sides() -> None:
    for number, delay in ((0.0, 50), (0.5, 100), (0.999_999, 150)):
        assert ExponentialBackOff(100, jitter=0.5, source=lambda number=number: number).delay_ms(1) == delay  # type: ignore[misc]


def test_jitter_differs_from_one_record_to_the_next() -> None:
    back_off = ExponentialBackOff(1000, jitter=0.5, source=random.Random(1).random)
    assert len({back_off.delay_ms(1) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "says"),
    [
        (FixedBackOff, {"interval_ms": -1}, InvalidValue, "interval_ms must be 0 to"),
        (FixedBackOff, {"interval_ms": 1.5}, InvalidType, "whole number of milliseconds, not 1.5"),
        (FixedBackOff, {"interval_ms": True}, InvalidType, "whole number"),
        (FixedBackOff, {"interval_ms": "5s"}, InvalidType, "not '5s'"),
        (FixedBackOff, {"interval_ms": MAX_DELAY_MS + 1}, InvalidValue, "interval_ms"),
        (FixedBackOff, {"max_retries": -1}, InvalidValue, "0 or more, not -1"),
        (FixedBackOff, {"max_retries": 2.0}, InvalidType, "None for no limit"),
        (ExponentialBackOff, {"initial_interval_ms": 0}, InvalidValue, "initial_interval_ms must be 1 to"),
        (ExponentialBackOff, {"initial_interval_ms": 60_000}, InvalidValue, "more than max_interval_ms, 30000"),
        (ExponentialBackOff, {"max_interval_ms": 0}, InvalidValue, "max_interval_ms"),
        (ExponentialBackOff, {"multiplier": 0.9}, InvalidValue, "multiplier must be at least 1, not 0.9"),
        (ExponentialBackOff, {"multiplier": float("nan")}, InvalidValue, "multiplier"),
        (ExponentialBackOff, {"multiplier": float("inf")}, InvalidValue, "multiplier"),
        (ExponentialBackOff, {"multiplier": "2"}, InvalidType, "multiplier is a number"),
        (ExponentialBackOff, {"jitter": -0.1}, InvalidValue, "jitter must be 0 to 1"),
        (ExponentialBackOff, {"jitter": 20}, InvalidValue, "jitter must be 0 to 1, not 20"),
        (ExponentialBackOff, {"max_retries": -1}, InvalidValue, "max_retries"),
        (ExponentialBackOff, {"source": 4}, InvalidType, "source is a function"),
    ],
)
def test_a_back_off_that_cannot_be_meant_is_refused(
    kind: Any, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        kind(**arguments)


def test_there_is_no_retry_zero() -> None:
    for back_off in (FixedBackOff(), ExponentialBackOff()):
        with pytest.raises(InvalidValue, match="count from 1"):
            back_off.delay_ms(0)


def test_back_offs_are_values() -> None:
    assert ExponentialBackOff(source=random.Random(1).random) == ExponentialBackOff()
    assert len({FixedBackOff(1, 2), FixedBackOff(1, 2), FixedBackOff(1, 3)}) == 2
    with pytest.raises(AttributeError):
        FixedBackOff().interval_ms = 3  # type: ignore[misc]
