"""Random cron expressions and wall times, for tests of properties."""

from __future__ import annotations

from datetime import datetime

from hypothesis import strategies as st

from scheduling.cron.expression import CronExpression, parse


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(1, high)
    stepped = st.tuples(st.one_of(st.just("*"), number.map(str), span), step).map(lambda pair: f"{pair[0]}/{pair[1]}")
    one = st.one_of(number.map(str), span, stepped)
    return st.one_of(st.just("*"), one, st.lists(one, min_size=2, max_size=3).map(",".join))


_DAYS = st.one_of(
    st.just("?"),
    st.just("L"),
    st.just("LW"),
    st.integers(1, 30).map(lambda before: f"L-{before}"),
    st.integers(1, 31).map(lambda day: f"{day}W"),
    _field(1, 31),
)
_WEEK = st.one_of(
    st.just("?"),
    st.just("MON-FRI"),
    st.integers(0, 7).map(lambda day: f"{day}L"),
    st.tuples(st.integers(0, 7), st.integers(1, 5)).map(lambda pair: f"{pair[0]}#{pair[1]}"),
    _field(1, 7),
)


def texts() -> st.SearchStrategy[str]:
    """Expressions of six fields; some never fire."""
    return st.tuples(_field(0, 59), _field(0, 59), _field(0, 23), _DAYS, _field(1, 12), _WEEK).map(" ".join)


def expressions() -> st.SearchStrategy[CronExpression]:
    """Parsed ones."""
    return texts().map(parse)


def wall_times() -> st.SearchStrategy[datetime]:
    """To the second, without a zone."""
    times = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1))  # noqa: DTZ001 - wall times
    return times.map(lambda time: time.replace(microsecond=0))
