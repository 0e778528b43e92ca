"""What stands beside the executors of one process from its beginning to its end: reports, metrics, and the drain.

A thread looks each second at the executors that the process has used. A change is reported to the other processes
(`reports`) and added to the metrics; without one the report is renewed every few seconds, and a process that has used
no executor writes nothing. While the database is away the process goes on, unreported. Called by web processes, by
`listen` (over `brokers.processes`) and by Celery's workers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from typing import Final

import psycopg

from brokers import processes
from brokers.errors import Unavailable
from brokers.processes import Heartbeat
from scheduling.connections import OwnConnection
from scheduling.executors import registry, reports
from scheduling.executors.definition import Figures
from scheduling.metrics import ExecutorTally

log = logging.getLogger("waystation.executors")

WORKER: Final = "task worker"
EVERY_SECONDS: Final = 1.0
RENEW_SECONDS: Final = 5.0
JOIN_SECONDS: Final = 1.0


class Reporter:
    """One process's."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._process = uuid.uuid4()
        self._host, self._pid = socket.gethostname()[:200], os.getpid()
        self._connection = OwnConnection("waystation-executors")
        self._tally = ExecutorTally()
        self._reported: list[Figures] = []
        self._reported_at: float | None = None
        self._is_away = False
        self._heartbeat = Heartbeat(kind) if kind == WORKER else None
        """Of a process that nobody else says of that it lives."""
        self._said_at: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waystation-executor-reports", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Looks no more, takes the report back, and brings the metrics up to date."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS)
        self._tally.flush(registry.in_use())
        if self._reported_at is not None and not self._is_away and not self._thread.is_alive():
            with contextlib.suppress(Unavailable, psycopg.Error):
                reports.remove(self._connection, self._process)
        if self._heartbeat is not None and self._said_at is not None and not self._thread.is_alive():
            with contextlib.suppress(Unavailable, psycopg.Error), self._connection.cursor() as cursor:
                self._heartbeat.end_by(cursor)
        self._connection.close()

    def look(self) -> None:
        """One look: metrics, and the report where it is due."""
        found = registry.in_use()
        if not found:
            return
        self._tally.flush(found)
        reported_at = self._reported_at
        if reported_at is not None and found == self._reported and time.monotonic() < reported_at + RENEW_SECONDS:
            return
        try:
            if reported_at is None:
                reports.purge(self._connection)
            reports.write(self._connection, self._process, self._host, self._pid, self._kind, found)
        except (Unavailable, psycopg.Error) as error:
            if not self._is_away:
                log.warning("executors cannot be reported", extra={"error": str(error)})
            self._is_away = True
            return
        self._is_away, self._reported, self._reported_at = False, found, time.monotonic()

    def say_alive(self) -> None:
        """Says that a worker lives, where that is due."""
        said_at = self._said_at
        if self._heartbeat is None or (said_at is not None and time.monotonic() < said_at + processes.RENEW_SECONDS):
            return
        with contextlib.suppress(Unavailable, psycopg.Error), self._connection.cursor() as cursor:
            self._heartbeat.beat_by(cursor)
            self._said_at = time.monotonic()

    def _run(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            self.say_alive()
            self.look()


_reporters: list[Reporter] = []
"""This process's one, while it runs."""


def begin(kind: str) -> None:
    """A process begins that may use executors: `web`, `listener` or `task worker`. A second call does nothing."""
    if not _reporters:
        _reporters.append(Reporter(kind))
        _reporters[0].start()


def end(seconds: float) -> int:
    """The process ends: does what its executors have queued, for so long at most; answers how many tasks were not done.

    The number is logged, too. Waits: not for an event loop's thread.
    """
    left = registry.shutdown(seconds)
    while _reporters:
        _reporters.pop().stop()
    return left


def _begin_anew() -> None:
    """A forked child is another process, and says itself that it begins."""
    _reporters.clear()


os.register_at_fork(after_in_child=_begin_anew)
