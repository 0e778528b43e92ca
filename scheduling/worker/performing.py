"""Does one run in a worker: claims it, calls the function, writes down how it ended.

Whatever the function raises is the run's failure. A run that was taken from this process meanwhile, because it was
stopped for longer than its lease, ends without a trace here. Called by Celery's task for each ring of the bell.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from typing import Final

from django.db import close_old_connections

from brokers import failure
from brokers.errors import Unavailable
from scheduling import runs
from scheduling.connections import OwnConnection
from scheduling.doorbell import doorbell
from scheduling.errors import RunTimedOut
from scheduling.runs import Attempt
from scheduling.worker import timeouts, work
from scheduling.worker.keeper import Keeper

log = logging.getLogger("waystation.scheduling")

MAX_RESULT: Final = 64 * 1024
"""Characters of a result's JSON that are kept."""

END_TRIES: Final = 20
END_PAUSE_SECONDS: Final = 0.5


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
        wanted = work.find(attempt)
        self._keeper.hold(attempt, wanted.timeout_seconds)
        try:
            self._attempt(attempt, wanted)
        finally:
            self._keeper.release(attempt)
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
        state, result, error = self._call(wanted)
        done = self._end(wanted, attempt, state, result, error)
        seconds = time.monotonic() - began
        log.log(
            logging.INFO if state in (runs.SUCCEEDED, runs.SKIPPED) else logging.ERROR,
            "a run has ended" if done else "a run that was taken from this process has ended",
            extra={"function": attempt.function, "run": attempt.id, "state": state, "seconds": round(seconds, 3)},
        )

    def _end(self, wanted: work.Work, attempt: Attempt, state: str, result: object, error: str) -> bool:
        """Writes down how it ended, for as long as its lease is kept while the database is away."""
        patience = threading.Event()
        for _ in range(END_TRIES):
            try:
                return wanted.end(self._connection, attempt, state, result, error)
            except Unavailable:
                patience.wait(END_PAUSE_SECONDS)
        return wanted.end(self._connection, attempt, state, result, error)

    def _call(self, wanted: work.Work) -> tuple[str, object, str]:
        """How it went: the state, the result, the error's text."""
        close_old_connections()
        try:
            with timeouts.interrupted_after(wanted.timeout_seconds):
                result = wanted.call()
        except work.Skipped as reason:
            return runs.SKIPPED, None, str(reason)
        except RunTimedOut as error:
            return runs.TIMED_OUT, None, failure.describe(error).stacktrace
        except Exception as error:
            return runs.FAILED, None, failure.describe(error).stacktrace
        finally:
            close_old_connections()
        return runs.SUCCEEDED, _stored(result), ""


def _stored(result: object) -> object:
    """A result as it is kept: what JSON cannot hold, or what is too long, as a word about it."""
    try:
        text = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError):
        return {"unstored": f"a {type(result).__qualname__}, which JSON cannot hold"}
    return result if len(text) <= MAX_RESULT else {"unstored": f"{len(text)} characters of JSON"}
