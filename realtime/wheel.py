"""Visits things later, thousands of them cheaply: heart-beats, login deadlines, sessions that may have gone.

One ring of slots of 100 ms and one timer for the whole process, instead of a timer each (a hashed timing wheel,
Varghese and Lauck 1987). Used by `connections` and by the SockJS sessions; lives in one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

SLOT_SECONDS: Final = 0.1
SLOTS: Final = 1024
"""One turn takes 102.4 s; what is due later is put back until its time has come."""

Visit = Callable[[float], "float | None"]
"""Called with the present `time.monotonic()`; says in how many seconds to come again, or None for never."""


class Appointment:
    """One thing that will be visited."""

    __slots__ = ("due", "visit")

    def __init__(self, visit: Visit, due: float) -> None:
        self.visit: Visit | None = visit
        self.due = due

    def cancel(self) -> None:
        """There will be no more visits; lets go of the thing at once."""
        self.visit = None


class Wheel:
    """The ring. Visits come at most a slot late, and never early."""

    def __init__(self) -> None:
        self._slots: list[list[Appointment]] = [[] for _ in range(SLOTS)]
        self._start = time.monotonic()
        self._turned = 0
        self._timer: asyncio.TimerHandle | None = None
        self.now = self._start
        """The time at the last turn: precise enough to note when something was heard."""

    def start(self) -> None:
        """Begins to turn; needs the running event loop."""
        if self._timer is None:
            self._plan()

    def stop(self) -> None:
        """Visits nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def visit_in(self, seconds: float, visit: Visit) -> Appointment:
        """Has `visit` called in so many seconds, and then again as it says; it must not raise."""
        appointment = Appointment(visit, time.monotonic() + seconds)
        self._put(appointment)
        return appointment

    def turn(self, now: float) -> None:
        """Visits everything due by `now`; the timer calls it."""
        self.now = now
        reached = int((now - self._start) / SLOT_SECONDS)
        first = max(self._turned, reached - SLOTS)  # after a standstill no slot needs looking at twice
        self._turned = reached
        for number in range(first, reached):
            slot = number % SLOTS
            due, self._slots[slot] = self._slots[slot], []
            for appointment in due:
                self._keep(appointment, now)

    def _keep(self, appointment: Appointment, now: float) -> None:
        if appointment.visit is None:
            return
        if appointment.due <= now:
            again = appointment.visit(now)
            if again is None or appointment.visit is None:
                return
            appointment.due = now + again
        self._put(appointment)

    def _put(self, appointment: Appointment) -> None:
        number = int((appointment.due - self._start) / SLOT_SECONDS)
        self._slots[max(number, self._turned) % SLOTS].append(appointment)

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SLOT_SECONDS, self._tick)

    def _tick(self) -> None:
        self._plan()
        self.turn(time.monotonic())
