"""Runs that take too long are interrupted, and nobody else's alarm is lost."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from scheduling.errors import RunTimedOut
from scheduling.worker.timeouts import interrupted_after


@pytest.fixture(autouse=True)
def rung() -> Iterator[list[float]]:
    """When somebody else's alarm went off. The one that pytest has set for the test is put off meanwhile."""
    found: list[float] = []

    def note(number: int, frame: FrameType | None) -> None:
        found.append(time.monotonic())

    remaining, interval = signal.setitimer(signal.ITIMER_REAL, 0.0)
    earlier = signal.signal(signal.SIGALRM, note)
    yield found
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, earlier)
    signal.setitimer(signal.ITIMER_REAL, remaining, interval)


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_what_takes_too_long_is_interrupted() -> None:
    began = time.monotonic()
    with pytest.raises(RunTimedOut, match=r"its timeout of 0\.05 s"), interrupted_after(0.05):
        wait(20)
    assert time.monotonic() - began < 10


def test_what_is_quick_is_not_interrupted_later(rung: list[float]) -> None:
    with interrupted_after(0.05):
        pass
    wait(0.1)
    assert rung == []
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_without_a_timeout_nothing_is_set() -> None:
    with interrupted_after(None):
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_the_block_raises_comes_through() -> None:
    with pytest.raises(LookupError), interrupted_after(5.0):
        raise LookupError
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("theirs", [0.05, 0.2])
def test_an_alarm_that_was_set_before_still_goes_off(rung: list[float], theirs: float) -> None:
    """Also one that would have gone off meanwhile: a little late."""
    signal.setitimer(signal.ITIMER_REAL, theirs)
    with interrupted_after(5.0):
        wait(0.1)
    wait(0.5)
    assert len(rung) == 1


def test_an_alarm_at_the_very_end_leaves_nothing_behind(rung: list[float]) -> None:
    for delay in range(200):
        try:
            with interrupted_after(0.0005 + delay / 1_000_000):
                time.sleep(0.0005)
        except RunTimedOut:
            continue
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    signal.raise_signal(signal.SIGALRM)
    assert len(rung) == 1, "the handler is that of before"
