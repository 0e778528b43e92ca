"""Interrupts a run that takes too long: an exception in the main thread of the worker's process, at its next line.

Only where runs are done in the main thread, as Celery's prefork pool does. What never comes back to Python, as a query
that hangs, is ended by the keeper, with its process.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from scheduling.errors import RunTimedOut

_SIGNAL: Final = signal.SIGALRM


@contextmanager
def interrupted_after(seconds: float | None) -> Iterator[None]:
    """Raises `RunTimedOut` in the block when it takes longer than that."""
    if seconds is None:
        yield
        return

    is_over = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not is_over:
            raise RunTimedOut(f"it took longer than its timeout of {seconds:g} s")

    earlier = signal.signal(_SIGNAL, interrupt)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    began = time.monotonic()
    try:
        try:
            yield
        finally:
            is_over = True  # an alarm at this very moment must not keep the rest from being done
    finally:
        if remaining:  # whoever had set an alarm before gets it, late at most
            remaining = max(remaining - (time.monotonic() - began), 0.001)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(_SIGNAL, earlier)
        signal.setitimer(signal.ITIMER_REAL, remaining, interval)
