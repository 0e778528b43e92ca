"""Runs that one message tells of: done one after the other, and handed on when one of them takes its time.

Where many runs are due at once a message for each would cost more than most of the runs. What waits behind a run for
longer than a moment is rung for again, one by one, so that other processes may begin with it. Called by `entry`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from scheduling.doorbell import doorbell

PATIENCE_SECONDS: Final = 0.2
"""How long after the message runs may wait for those before them."""


class Several:
    """The runs of a message that have not begun."""

    def __init__(self, runs: Sequence[int]) -> None:
        self._waiting = deque(runs, maxlen=len(runs))

    def perform(self, perform: Callable[[int], None]) -> None:
        """Does them until they are done or handed on; raises what `perform` raises, and leaves the others then."""
        timer = threading.Timer(PATIENCE_SECONDS, self._hand_on)
        timer.name, timer.daemon = "waystation-hand-on", True
        timer.start()
        try:
            while (run := self._next()) is not None:
                perform(run)
        finally:
            timer.cancel()

    def _next(self) -> int | None:
        try:
            return self._waiting.popleft()  # by one thread or the other, never by both
        except IndexError:
            return None

    def _hand_on(self) -> None:
        while (run := self._next()) is not None:
            doorbell.ring(run)
