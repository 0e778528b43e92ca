"""A back-off as the sequence of attempts and pauses that is drawn of it."""

from __future__ import annotations

import pytest

from brokers.retries.backoff import BackOff, ExponentialBackOff, FixedBackOff
from messaging_site.console.queue_retries import steps_of


@pytest.mark.parametrize(
    ("back_off", "texts"),
    [
        (FixedBackOff(interval_ms=0, max_retries=0), ["attempt 1"]),
        (FixedBackOff(interval_ms=5000, max_retries=1), ["attempt 1", "5 s", "attempt 2"]),
        (
            ExponentialBackOff(initial_interval_ms=5000, multiplier=6, max_interval_ms=300_000, max_retries=2),
            ["attempt 1", "5 s", "attempt 2", "30 s", "attempt 3"],
        ),
    ],
)
def test_short_ones_are_drawn_whole(back_off: BackOff, texts: list[str]) -> None:
    assert [step.text for step in steps_of(back_off)] == texts


def test_long_ones_end_in_a_few_words() -> None:
    assert steps_of(FixedBackOff(interval_ms=0, max_retries=9))[-1].text == "… 10 attempts in all"
    assert steps_of(FixedBackOff(interval_ms=0, max_retries=5))[-1].text == "attempt 6"
    assert steps_of(FixedBackOff())[-1].text == "and so on without an end"
