"""Runs: beginning, keeping and ending attempts at scheduled tasks and background work, and finding what nobody does.

The row is the work, Celery only rings the bell: whoever is told of a run must claim it, an attempt holds a lease and
a token, and only the holder of the token may end it. Statements are in `sql/runs.sql`; each commits by itself, on the
caller's own connection. How background work is called and given up is in `durable.store`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg

from brokers.database import sync_cursor
from brokers.failure import Failure
from brokers.sql import parse
from scheduling.connections import OwnConnection

SQL: Final = parse(Path(__file__).parent / "sql" / "runs.sql")

LEASE_SECONDS: Final = 15.0
"""How long an attempt may be silent before it is given up: what a killed worker's run waits."""
RING_AGAIN_SECONDS: Final = 10.0
"""How long a worker has to begin what it was told of, before all are told again."""
AT_ONCE: Final = 500
MAX_LOSSES: Final = 3
"""Background work that has cost so many workers is given up."""
LOSS_PAUSE_SECONDS: Final = 10.0
"""What background work waits for after the second lost worker; after the first it is tried at once."""
KEPT_ATTEMPTS: Final = 50
"""Failed attempts that are kept of one run."""
MAX_ERROR: Final = 20_000
"""Characters of an error's text that are kept."""

SUCCEEDED, FAILED, TIMED_OUT, SKIPPED, LOST, DEAD = "succeeded", "failed", "timed_out", "skipped", "lost", "dead"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run that this process has begun."""

    token: uuid.UUID
    id: int
    task_id: int | None
    due_at: datetime
    trigger: str
    function: str
    arguments: Any
    number: int
    """Of the attempt, from 1."""
    losses: int
    source: str | None
    """Who has declared the task: `code` or `operator`; None for background work."""
    failures: int = 0
    """Attempts so far that raised something."""
    same_failures: int = 0
    """Of these the last ones that raised `exception_class`."""
    exception_class: str = ""
    dead_letter_id: int | None = None
    """The dead letter that a replay has given back; ending the run settles it."""
    late_seconds: float = 0.0
    """From when it was to begin to its beginning, by the database's clock."""


def claim(connection: OwnConnection, run: int, process: str) -> Attempt | None:
    """Begins an attempt; None when the run is not there, not due, or somebody else's."""
    token = uuid.uuid4()
    parameters = {"id": run, "token": token, "process": process, "lease": LEASE_SECONDS}
    try:
        with connection.cursor() as cursor:
            row = cursor.execute(SQL.claim, parameters).fetchone()
    except psycopg.errors.UniqueViolation:
        return None  # another run of its task began at this moment
    return None if row is None else Attempt(token, *row)


def extend(connection: OwnConnection, attempts: Iterable[Attempt]) -> set[uuid.UUID]:
    """Renews leases; answers the tokens that still hold."""
    held = list(attempts)
    parameters = {"lease": LEASE_SECONDS, "tokens": [each.token for each in held], "ids": [each.id for each in held]}
    with connection.cursor() as cursor:
        return {row[0] for row in cursor.execute(SQL.extend, parameters)}


def finish(connection: OwnConnection, attempt: Attempt, state: str, *, result: object = None, error: str = "") -> bool:
    """Ends the run; False when the attempt had lost it, and what it did is not written down."""
    parameters = {
        "id": attempt.id,
        "token": attempt.token,
        "state": state,
        "result": None if result is None else json.dumps(result),
        "error": clipped(error),
    }
    with connection.cursor() as cursor:
        return cursor.execute(SQL.finish, parameters).fetchone() is not None


def retry(connection: OwnConnection, attempt: Attempt, failure: Failure, delay_ms: int) -> bool:
    """Gives an attempt of background work back, for another one after the delay; False when it had lost the run."""
    parameters = {
        "id": attempt.id,
        "token": attempt.token,
        "error": clipped(failure.stacktrace),
        "message": failure.message,
        "class": failure.exception_class,
        "stacktrace": failure.stacktrace,
        "frames": json.dumps([frame._asdict() for frame in failure.frames]),
        "delay_ms": delay_ms,
        "kept": KEPT_ATTEMPTS,
    }
    with connection.cursor() as cursor:
        return cursor.execute(SQL.retry, parameters).fetchone() is not None


def lose(connection: OwnConnection) -> int:
    """Ends runs of tasks whose worker is silent, and makes background work ready again; says how many.

    Background work that was ready again too often is `poison`, and left for who gives it up.
    """
    again = {"limit": AT_ONCE, "most": MAX_LOSSES, "pause": LOSS_PAUSE_SECONDS, "kept": KEPT_ATTEMPTS}
    with connection.cursor() as cursor:
        lost = len(cursor.execute(SQL.lose, {"limit": AT_ONCE}).fetchall())
        return lost + len(cursor.execute(SQL.take_back, again).fetchall())


def poison(connection: OwnConnection) -> list[tuple[int, uuid.UUID]]:
    """Background work that has lost its last worker: runs, and the tokens that lapsed."""
    with connection.cursor() as cursor:
        return cursor.execute(SQL.poison, {"limit": AT_ONCE, "most": MAX_LOSSES}).fetchall()


def unrung(connection: OwnConnection) -> list[int]:
    """What is due, and no worker was told of within the last seconds."""
    with connection.cursor() as cursor:
        rows = cursor.execute(SQL.unrung, {"patience": RING_AGAIN_SECONDS, "limit": AT_ONCE})
        return [row[0] for row in rows]


def rung(connection: OwnConnection, runs: Sequence[int]) -> None:
    """Notes that workers were told of these."""
    with connection.cursor() as cursor:
        cursor.execute(SQL.rung, (list(runs),))


def next_of_task(connection: OwnConnection, task: int) -> int | None:
    """The run of a task that waited for another to end."""
    with connection.cursor() as cursor:
        row = cursor.execute(SQL.next_of_task, (task,)).fetchone()
    return None if row is None else int(row[0])


def purge(connection: OwnConnection, days: int) -> int:
    """Forgets runs that ended so many days ago, a bounded number; says how many."""
    with connection.cursor() as cursor:
        cursor.execute(SQL.purge, {"days": days, "limit": 5_000})
        return cursor.rowcount


def run_now(task: str, who: str) -> int | None:
    """A run of a task outside its schedule, in the caller's transaction; None when there is no such task."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.run_now, {"name": task, "who": who}).fetchone()
    return None if row is None else int(row[0])


def clipped(text: str) -> str:
    """What is kept of an error's text: its end says most. NUL cannot be stored."""
    clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return clean if len(clean) <= MAX_ERROR else "…" + clean[-MAX_ERROR:]
