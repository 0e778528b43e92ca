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
from typing import Final

from brokers.errors import Unavailable
from scheduling import runs
from scheduling.connections import OwnConnection
from scheduling.runs import Attempt

log = logging.getLogger("waystation.scheduling")

BEAT_SECONDS: Final = runs.LEASE_SECONDS / 3
GRACE_SECONDS: Final = 5.0
"""How much longer than its timeout a run has before its process is killed."""


class Keeper:
    """One of a process; starts its thread with the first attempt."""

    def __init__(self) -> None:
        self._connection = OwnConnection("waystation-keeper")
        self._changed = threading.Condition()
        self._held: dict[int, Attempt] = {}
        self._deadlines: dict[int, float] = {}
        self._lost: set[int] = set()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def hold(self, attempt: Attempt, timeout_seconds: float | None) -> None:
        """Keeps the lease from now on; kills this process when the run ignores its timeout."""
        with self._changed:
            self._held[attempt.id] = attempt
            if timeout_seconds is not None:
                self._deadlines[attempt.id] = time.monotonic() + timeout_seconds + GRACE_SECONDS
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
                self._changed.wait(max(min([due, *self._deadlines.values()]) - time.monotonic(), 0.0))
                if self._is_closed:
                    return
                late = [self._held[run] for run, deadline in self._deadlines.items() if deadline <= time.monotonic()]
                held = list(self._held.values())
            if late:
                self._end_process(late)
            if time.monotonic() >= due:
                due = time.monotonic() + BEAT_SECONDS
                if held:
                    self._extend(held)

    def _end_process(self, late: list[Attempt]) -> None:
        log.error("a run ignores its timeout, its process ends", extra={"runs": [attempt.id for attempt in late]})
        with contextlib.suppress(Unavailable):  # the run's lease lapses, then
            for attempt in late:
                runs.finish(self._connection, attempt, runs.TIMED_OUT, error="it ignored its timeout and was killed")
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
