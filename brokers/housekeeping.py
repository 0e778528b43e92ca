"""What has to be done every few seconds by some process: roll-ups, retention, compaction, expiries.

Each job is a plain function that is bounded and may run again at any time; an advisory lock keeps two processes from
doing the same job at once. The `listen` worker calls `Housekeeper.run_due` in its loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from brokers import compaction, group_members, idempotency, processes, retention, rollups
from brokers.database import sync_cursor
from brokers.errors import BrokerError
from brokers.sql import load

SQL = load("housekeeping")
log = logging.getLogger("waystation.housekeeping")

_LOCK_CLASS = 0x57415953
"""First half of the advisory locks' keys; the second is the job's number."""


@dataclass(frozen=True, slots=True)
class Job:
    """A function to call every `seconds`; its number is its lock's, and never changes."""

    number: int
    name: str
    seconds: float
    run: Callable[[], int]


JOBS = (
    Job(1, "expire sessions", 1.0, group_members.expire_sessions),
    Job(2, "count records", 5.0, rollups.count_new),
    Job(3, "retention", 5.0, retention.enforce),
    Job(4, "remove deleted topics", 5.0, retention.remove_deleted_topics),
    Job(5, "compaction", 10.0, compaction.compact),
    Job(6, "forget idempotency keys", 60.0, idempotency.purge),
    Job(7, "forget processes", 60.0, processes.purge),
    Job(8, "forget members", 600.0, group_members.forget_ended_members),
    Job(9, "forget minutes", 600.0, rollups.forget_old),
)


class Housekeeper:
    """Knows when each job is due in this process."""

    def __init__(self, jobs: tuple[Job, ...] = JOBS) -> None:
        self._due = dict.fromkeys(jobs, 0.0)

    def run_due(self) -> float:
        """Runs the jobs that are due and answers the seconds until the next one is.

        A job that fails is logged and tried again at its next time.
        """
        for job, due in self._due.items():
            if time.monotonic() >= due:
                self._due[job] = time.monotonic() + job.seconds
                try:
                    done = run_alone(job)
                except BrokerError as error:
                    log.warning("job failed", extra={"job": job.name, "error": error.detail})
                    continue
                if done:
                    log.debug("job done", extra={"job": job.name, "done": done})
        return max(0.0, min(self._due.values()) - time.monotonic())


def run_alone(job: Job) -> int:
    """Runs a job unless another process is at it; answers what it did, 0 when another is."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.try_lock, (_LOCK_CLASS, job.number)).fetchone()
    if row is None or not row[0]:
        return 0
    try:
        return job.run()
    finally:
        with sync_cursor() as cursor:
            cursor.execute(SQL.unlock, (_LOCK_CLASS, job.number))
