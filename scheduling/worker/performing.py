"""Does one run in a worker: claims it, calls the function, writes down how it ended.

Whatever the function raises is the run's failure; what follows from that, `work` knows. A run that was taken from this
process meanwhile, because it was stopped for longer than its lease, ends without a trace here. Called by Celery's task
for each ring of the bell.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from functools import partial
from typing import Final

from django.db import close_old_connections

from brokers import failure
from brokers.errors import Unavailable
from scheduling import announcing, metrics, runs
from scheduling.connections import OwnConnection
from scheduling.doorbell import doorbell
from scheduling.errors import RunTimedOut
from scheduling.runs import Attempt
from scheduling.worker import timeouts, work
from scheduling.worker.keeper import GRACE_SECONDS, Keeper
from scheduling.worker.outcome import Outcome, kept

log = logging.getLogger("waystation.scheduling")

END_TRIES: Final = 20
END_PAUSE_SECONDS: Final = 0.5
_SAID: Final = {"ready": "a run will be tried again", runs.DEAD: "a run was given up"}


class Performer:
    """One of a process, used by its main thread."""

    def __init__(self) -> None:
        self._connection = OwnConnection("waystation-runs")
        self._keeper = Keeper()
        self._process = f"{socket.gethostname()}:{os.getpid()}"[:255]

    def perform(self, run: int) -> None:
        """Does the run, unless it is not due or somebody else does it. Raises `Unavailable`, and leaves it then."""
        attempt = runs.claim(self._connection, run, self._process)
        if attempt is None:
            return
        metrics.run_began(attempt)
        announcing.tasks_changed()
        wanted = work.find(attempt, partial(self._keeper.is_lost, attempt))
        limit = None if wanted.timeout_seconds is None else wanted.timeout_seconds + GRACE_SECONDS
        self._keeper.hold(attempt, limit, partial(_end_ignoring, wanted))
        try:
            self._attempt(attempt, wanted)
        finally:
            self._keeper.release(attempt)
            announcing.tasks_changed()
        if attempt.task_id is not None:
            following = runs.next_of_task(self._connection, attempt.task_id)
            if following is not None:
                doorbell.ring(following)

    def close(self) -> None:
        """Ends the keeper's thread and gives the connections back."""
        self._keeper.close()
        self._connection.close()

    def _attempt(self, attempt: Attempt, wanted: work.Work) -> None:
        began = time.monotonic()
        outcome = self._call(wanted)
        state = self._end(wanted, outcome)
        seconds = time.monotonic() - began
        metrics.run_ended(attempt, state, seconds)
        log.log(
            logging.INFO if outcome.state in (runs.SUCCEEDED, runs.SKIPPED) else logging.ERROR,
            _SAID.get(state or "", "a run has ended") if state else "a run that was taken from this process has ended",
            extra={
                "function": attempt.function,
                "run": attempt.id,
                "attempt": attempt.number,
                "state": outcome.state,
                "seconds": round(seconds, 3),
            },
        )

    def _end(self, wanted: work.Work, outcome: Outcome) -> str | None:
        """Writes down how it ended, for as long as its lease is kept while the database is away."""
        patience = threading.Event()
        for _ in range(END_TRIES):
            try:
                return wanted.end(self._connection, outcome)
            except Unavailable:
                patience.wait(END_PAUSE_SECONDS)
        return wanted.end(self._connection, outcome)

    def _call(self, wanted: work.Work) -> Outcome:
        """How it went."""
        close_old_connections()
        try:
            with timeouts.interrupted_after(wanted.timeout_seconds):
                result = wanted.call()
        except work.Skipped as reason:
            return Outcome(runs.SKIPPED, error=str(reason))
        except RunTimedOut as error:
            return Outcome(runs.TIMED_OUT, error=failure.describe(error).stacktrace, raised=error)
        except Exception as error:
            return Outcome(runs.FAILED, error=failure.describe(error).stacktrace, raised=error)
        finally:
            close_old_connections()
        return kept(result)


def _end_ignoring(wanted: work.Work, connection: OwnConnection) -> None:
    """The end of a run that ignores its timeout, whose process is about to be killed."""
    error = RunTimedOut("it ignored its timeout, and its process was killed")
    wanted.end(connection, Outcome(runs.TIMED_OUT, error=error.detail, raised=error))
