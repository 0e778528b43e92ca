"""Beats and task workers of the product as processes of their own, started as `up` starts them, and their tasks.

`bench.jitter`, `bench.take_overs` and `bench.durable` run them on the run's own stores.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psycopg

from bench import stores, workers
from messaging_site.processes import Process, spawn, stop

STOP_STEPS = ((signal.SIGTERM, 10.0),)
STOCK_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
Connection = psycopg.Connection[tuple[object, ...]]


def start(arguments: Sequence[str]) -> Process:
    """One Python process with this package's tasks; its output goes to the end of a file below the system's own."""
    log = Path(tempfile.gettempdir()) / f"waystation-bench-tasks-{os.getpid()}.log"
    with log.open("ab") as output:
        return spawn(
            [sys.executable, *arguments],
            parent_death_signal=signal.SIGKILL,
            cwd=stores.ROOT,
            env={**os.environ, "WAYSTATION_APPS": "bench.scheduled"},
            output=output,
        )


def end(process: Process) -> None:
    """SIGTERM, then SIGKILL to all that is left of it."""
    stop(process, STOP_STEPS)


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[Process]:
    """`start` and, at the end of the block, `end`."""
    process = start(arguments)
    try:
        yield process
    finally:
        end(process)


def beat_arguments() -> list[str]:
    """Of the product's beat."""
    from messaging_site.management.commands import up

    return list(up.BEAT_ARGUMENTS)


def stock_beat_arguments() -> list[str]:
    """Of a beat with the scheduler that django-celery-beat comes with."""
    arguments = beat_arguments()
    arguments[arguments.index("--scheduler") + 1] = STOCK_SCHEDULER
    return arguments


def worker_arguments(processes: int) -> list[str]:
    """Of the product's task worker."""
    from messaging_site.management.commands import up
    from scheduling import identity

    return list(up.worker_arguments(identity.queue_name(), processes))


def leader(conn: Connection) -> int | None:
    """Process id of the beat that leads."""
    held = (
        "select locked_by from shedlock"
        " where name = 'waystation:beat' and lock_until > timezone('utc', clock_timestamp())"
    )
    rows = conn.execute(held).fetchall()
    return int(str(rows[0][0]).split(":")[-2]) if rows else None


@contextmanager
def leading_beat(conn: Connection) -> Iterator[Process]:
    """The product's beat, from when it leads on."""
    with running(beat_arguments()) as process:
        workers.until(lambda: leader(conn) == process.pid, process, "the beat leads")
        yield process


def declare(conn: Connection) -> None:
    """Writes the tasks to the database, as a start of the server does; none of them is due within the hour."""
    from bench.scheduled import messaging  # noqa: F401 - importing declares
    from scheduling.tasks import declared, store

    forget(conn)
    store.declare(declared.declarations())
    conn.execute("vacuum analyze scheduling_scheduledtask")


def forget(conn: Connection) -> None:
    """Removes all tasks and runs."""
    conn.execute("truncate scheduling_run, scheduling_scheduledtask cascade")


def set_due(conn: Connection, dues: dict[str, datetime]) -> None:
    """Has tasks due at these instants, by their names."""
    conn.execute(
        "update scheduling_scheduledtask t set next_due = x.due"
        " from unnest(%s::text[], %s::timestamptz[]) x (name, due) where t.name = x.name",
        [list(dues), list(dues.values())],
    )
