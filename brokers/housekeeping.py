"""What has to be done every few seconds by some process: roll-ups, retention, compaction, expiries.

Each job is a plain function that is bounded and may run again at any time; an advisory lock keeps two processes from
doing the same job at once. The `listen` worker calls `Housekeeper.run_due` in its loop for what is quick, and runs
`Background` beside it for what may take minutes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import django.db
from django.db import close_old_connections, connection

from brokers import (
    compaction,
    dead_letters,
    deliveries,
    failure_counts,
    group_members,
    idempotency,
    processed,
    processes,
    redeliveries,
    retention,
    rollups,
)
from brokers.alerts import evaluation, notifications
from brokers.database import sync_cursor
from brokers.errors import BrokerError, Unavailable
from brokers.queues import lengths, tending
from brokers.replays.retention import purge as purge_replays
from brokers.sql import load

SQL = load("housekeeping")
log = logging.getLogger("waystation.housekeeping")

AWAY_SECONDS = 1.0
"""Pause while the database is away."""
JOIN_SECONDS = 5.0
"""How long the end waits for a transaction of a few batches that is under way."""
_LOCK_CLASS = 0x57415953
"""First half of the advisory locks' keys; the second is the job's number."""

KeepGoing = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Job:
    """A function to call every `seconds`; its number is its lock's, and never changes."""

    number: int
    name: str
    seconds: float
    run: Callable[[KeepGoing], int]


def _quick(function: Callable[[], int]) -> Callable[[KeepGoing], int]:
    return lambda _: function()


QUICK = (
    Job(1, "expire sessions", 1.0, _quick(group_members.expire_sessions)),
    Job(2, "count records", 5.0, _quick(rollups.count_new)),
    Job(6, "forget idempotency keys", 60.0, _quick(idempotency.purge)),
    Job(7, "forget processes", 60.0, _quick(processes.purge)),
    Job(8, "forget members", 600.0, _quick(group_members.forget_ended_members)),
    Job(9, "forget minutes", 600.0, _quick(rollups.forget_old)),
    Job(10, "count failures", 1.0, _quick(failure_counts.fold)),
    Job(11, "forget minutes of failures", 600.0, _quick(failure_counts.forget_old_minutes)),
    Job(15, "empty lanes of what is gone", 5.0, _quick(redeliveries.purge_orphans)),
    Job(21, "evaluate alert rules", 5.0, evaluation.evaluate),
    Job(23, "forget alerts", 600.0, _quick(evaluation.purge)),
)
SLOW = (
    Job(3, "retention", 5.0, retention.enforce),
    Job(4, "remove deleted topics", 5.0, retention.remove_deleted_topics),
    Job(5, "compaction", 10.0, compaction.compact),
    Job(12, "remove settled dead letters", 600.0, dead_letters.purge),
    Job(16, "forget replays", 60.0, purge_replays),
    Job(25, "forget attempts", 600.0, _quick(deliveries.purge)),
    Job(20, "forget processed messages", 60.0, processed.purge),
    Job(34, "forget minutes of queues", 600.0, _quick(lengths.forget_old_minutes)),
)
QUEUES = (
    Job(30, "tend queues", 0.25, tending.tend),
    Job(31, "count messages", 1.0, _quick(lengths.fold)),
    Job(32, "delete unused queues", 1.0, tending.delete_unused),
    Job(33, "remove messages of deleted queues", 2.0, tending.remove_deleted),
)
"""What is done several times a second, and waits for nothing else: in a `Background` of its own."""
OUTWARD = (Job(22, "send alert notifications", 1.0, notifications.send_due),)
"""What speaks to other servers and may have to wait for them: in a `Background` of its own."""

_further: list[Job] = []


def add(job: Job) -> None:
    """Adds a slow job of a layer above; its number is above 99. Called when its app is made ready."""
    _further.append(job)


class Housekeeper:
    """Knows when each job is due in this process; `keep_going` says whether the process goes on."""

    def __init__(self, jobs: Iterable[Job] = QUICK, keep_going: KeepGoing = lambda: True) -> None:
        self._due = dict.fromkeys(jobs, 0.0)
        self._keep_going = keep_going

    def run_due(self) -> float:
        """Runs the jobs that are due and answers the seconds until the next one is.

        A job that fails is logged and tried again at its next time. Raises `Unavailable` when the connection is lost.
        """
        for job, due in self._due.items():
            if time.monotonic() >= due and self._keep_going():
                self._due[job] = time.monotonic() + job.seconds
                try:
                    done = run_alone(job, self._keep_going)
                except (BrokerError, django.db.DatabaseError) as error:
                    close_old_connections()
                    if isinstance(error, Unavailable) and connection.connection is None:
                        raise
                    log.warning("job failed", extra={"job": job.name, "error": str(error)})
                    continue
                if done:
                    log.debug("job done", extra={"job": job.name, "done": done})
        return max(0.0, min(self._due.values()) - time.monotonic())


def run_alone(job: Job, keep_going: KeepGoing = lambda: True) -> int:
    """Runs a job unless another process is at it; answers what it did, 0 when another is."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.try_lock, (_LOCK_CLASS, job.number)).fetchone()
    if row is None or not row[0]:
        return 0
    try:
        return job.run(keep_going)
    finally:
        with sync_cursor() as cursor:
            cursor.execute(SQL.unlock, (_LOCK_CLASS, job.number))


class Background:
    """Runs the slow jobs in a thread with a connection of its own, from entry to exit of a `with` block.

    At the exit a job ends after the transaction that it is at.
    """

    def __init__(self, jobs: Iterable[Job] | None = None) -> None:
        self._stopping = threading.Event()
        due = [*SLOW, *_further] if jobs is None else jobs
        self._housekeeper = Housekeeper(due, keep_going=lambda: not self._stopping.is_set())
        self._thread = threading.Thread(target=self._run, name="waystation-housekeeping", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(JOIN_SECONDS)

    def is_alive(self) -> bool:
        """Whether the thread runs; when it does not, it met what nobody foresaw and has logged it."""
        return self._thread.is_alive()

    def _run(self) -> None:
        away = False
        try:
            while not self._stopping.is_set():
                try:
                    wait, away = self._housekeeper.run_due(), False
                except Unavailable as error:
                    if not away:
                        log.warning("the database is away", extra={"error": error.detail})
                    wait, away = AWAY_SECONDS, True
                    close_old_connections()
                self._stopping.wait(wait)
        finally:
            connection.close()
