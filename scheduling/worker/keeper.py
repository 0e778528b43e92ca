"""Keeps the leases of the runs that this process is at, in one statement every few seconds, from one thread.

A run that is missing in the answer was taken from this process, because it was stopped for longer than a lease: what
it does is done again by somebody else, or was given up. It is told so, and cannot be stopped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

from brokers.errors import Unavailable
from scheduling import runs
from scheduling.connections import OwnConnection
from scheduling.runs import Attempt

log = logging.getLogger("waystation.scheduling")

BEAT_SECONDS: Final = runs.LEASE_SECONDS / 3
GRACE_SECONDS: Final = 5.0
"""How much longer than its timeout a run has before its process is killed."""


OnIgnored = Callable[[OwnConnection], None]
"""Writes down the end of a run whose process is about to be killed."""


class Keeper:
    """One of a process; starts its thread with the first attempt."""

    def __init__(self) -> None:
        self._connection = OwnConnection("waystation-keeper")
        self._changed = threading.Condition()
        self._held: dict[int, Attempt] = {}
        self._deadlines: dict[int, tuple[float, OnIgnored]] = {}
        self._lost: set[int] = set()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def hold(self, attempt: Attempt, limit_seconds: float | None, on_ignored: OnIgnored) -> None:
        """Keeps the lease from now on; kills this process when the run is still there after the limit."""
        with self._changed:
            self._held[attempt.id] = attempt
            if limit_seconds is not None:
                self._deadlines[attempt.id] = (time.monotonic() + limit_seconds, on_ignored)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="waystation-lease-keeper", daemon=True)
                self._thread.start()
            self._changed.notify()

    def release(self, attempt: Attempt) -> None:
        """The attempt is over."""
        with self._changed:
            self._held.pop(attempt.id, None)
            self._deadlines.pop(attempt.id, None)
            self._lost.discard(attempt.id)

    def is_lost(self, attempt: Attempt) -> bool:
        """Whether the run was taken from this process."""
        return attempt.id in self._lost

    def close(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(BEAT_SECONDS)
        self._connection.close()

    def _run(self) -> None:
        due = time.monotonic() + BEAT_SECONDS
        while True:
            with self._changed:
                soonest = min([due, *(deadline for deadline, _ in self._deadlines.values())])
                self._changed.wait(max(soonest - time.monotonic(), 0.0))
                if self._is_closed:
                    return
                now = time.monotonic()
                late = {run: end for run, (deadline, end) in self._deadlines.items() if deadline <= now}
                held = list(self._held.values())
            if late:
                self._end_process(late)
            if time.monotonic() >= due:
                due = time.monotonic() + BEAT_SECONDS
                if held:
                    self._extend(held)

    def _end_process(self, late: dict[int, OnIgnored]) -> None:
        log.error("a run ignores its timeout, its process ends", extra={"runs": list(late)})
        try:
            with contextlib.suppress(Unavailable):  # the run's lease lapses, then
                for end in late.values():
                    end(self._connection)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    def _extend(self, held: list[Attempt]) -> None:
        try:
            kept = runs.extend(self._connection, held)
        except Unavailable as error:
            log.warning("leases of runs cannot be renewed", extra={"error": error.detail})
            return
        for attempt in held:
            if attempt.token not in kept and attempt.id in self._held:
                self._lost.add(attempt.id)
                log.error("a run was taken from this process", extra={"run": attempt.id, "function": attempt.function})
