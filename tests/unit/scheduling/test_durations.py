"""Spans of time: ISO 8601, Spring's short form, milliseconds."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling import durations
from scheduling.errors import InvalidDuration


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        ("PT30S", 30_000),
        ("PT1H30M", 5_400_000),
        ("P1DT2H", 93_600_000),
        ("P2D", 172_800_000),
        ("PT0.5S", 500),
        ("PT1.001S", 1001),
        ("PT0,25S", 250),
        ("PT0S", 0),
        ("pt5s", 5000),
        ("+PT5S", 5000),
        ("5s", 5000),
        ("500ms", 500),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
        ("5S", 5000),
        ("1h30m", 5_400_000),
        ("1d 2h 3m 4s 5ms", 93_784_005),
        ("3000us", 3),
        ("2000000ns", 2),
        ("250", 250),
        (" PT1S ", 1000),
        (0, 0),
        (1500, 1500),
        (timedelta(seconds=2, milliseconds=5), 2005),
        ("P36525D", durations.MAX_MS),
    ],
)
def test_reads(written: str | int | timedelta, milliseconds: int) -> None:
    assert durations.milliseconds(written) == milliseconds


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "is not a duration"),
        ("P", "is not a duration"),
        ("PT", "is not a duration"),
        ("P1DT", "is not a duration"),
        ("P1M", "is not a duration"),
        ("P1W", "is not a duration"),
        ("PT1S1M", "is not a duration"),
        ("PT-1S", "is not a duration"),
        ("s", "is not a duration"),
        ("5 seconds", "is not a duration"),
        ("5x", "is not a duration"),
        ("1.5s", "is not a duration"),
        ("٣s", "is not a duration"),
        ("9" * 100, "is not a duration"),
        ("-PT1S", "is negative"),
        ("-5s", "is negative"),
        (-1, "is negative"),
        (timedelta(seconds=-1), "is negative"),
        ("PT0.0005S", "finer than a millisecond"),
        ("1us", "finer than a millisecond"),
        (timedelta(microseconds=1500), "finer than a millisecond"),
        ("P36526D", "longer than a hundred years"),
        (10**30, "longer than a hundred years"),
        (timedelta.max, "longer than a hundred years|finer"),
        (True, "ISO 8601 text"),
        (1.5, "ISO 8601 text"),
        (None, "ISO 8601 text"),
    ],
)
def test_refuses(written: str, why: str) -> None:
    with pytest.raises(InvalidDuration, match=why):
        durations.milliseconds(written)


@given(st.integers(0, durations.MAX_MS))
def test_iso_text_is_read_back(milliseconds: int) -> None:
    assert durations.milliseconds(durations.text(milliseconds)) == milliseconds


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(written: str) -> None:
    with contextlib.suppress(InvalidDuration):
        assert 0 <= durations.milliseconds(written) <= durations.MAX_MS


@pytest.mark.parametrize(
    ("milliseconds", "text", "words"),
    [
        (0, "PT0S", "0 seconds"),
        (30_000, "PT30S", "30 seconds"),
        (1000, "PT1S", "1 second"),
        (1500, "PT1.5S", "1 second 500 milliseconds"),
        (93_600_000, "P1DT2H", "1 day 2 hours"),
        (5_400_000, "PT1H30M", "1 hour 30 minutes"),
        (86_400_000 * 2000, "P2000D", "2,000 days"),
    ],
)
def test_writes(milliseconds: int, text: str, words: str) -> None:
    assert durations.text(milliseconds) == text
    assert durations.words(milliseconds) == words
