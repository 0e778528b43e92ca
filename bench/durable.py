"""Durable background work: calls done a second, end to end, and how long the work of a killed worker lies.

A call is inserted, its message sent, claimed, done and its end written. Beside it, on the same worker, a task of
Celery alone that counts itself in Valkey: what the transactions of each call cost. For the second figure a worker is
killed by SIGKILL, with its processes, while four calls run in it; the time runs to the claim by a worker that is there
already.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from django.db import transaction

from bench import stores, task_processes, workers
from bench.measurement import Measurement
from bench.rounds import Extent, interleaved, median
from bench.task_processes import Connection
from messaging_site.processes import Process, kill

GROUP = "durable background work"
PROCESSES = 2
LOST_CALLS = 4
LOST_GOAL_SECONDS = 20.0
STAGGER_SECONDS = 1.3
REFERENCE = "a Celery task alone, counted in Valkey"


def measure(extent: Extent) -> Iterator[Measurement]:
    """Done a second, then killed workers."""
    with stores.bare_connection() as conn:
        task_processes.declare(conn)
        yield from _done(conn, extent.durable_tasks, extent.rounds)
        yield _handed_out_again(conn, extent.killed_workers)
        task_processes.forget(conn)


def _done(conn: Connection, count: int, rounds: int) -> Iterator[Measurement]:
    inserts: list[float] = []
    sends: list[float] = []
    with task_processes.running(task_processes.worker_arguments(PROCESSES)) as worker:
        _calls(conn, worker, 20 * PROCESSES)  # its processes connect, and load what they load at their first run

        def ours() -> float:
            started = time.perf_counter()
            inserted, sent = _calls(conn, worker, count)
            inserts.append(count / inserted)
            sends.append(count / sent)
            return count / (time.perf_counter() - started)

        def celerys() -> float:
            return _celery_tasks(worker, count)

        speeds = interleaved({"ours": ours, REFERENCE: celerys}, rounds)
    yield Measurement(
        group=GROUP,
        what=f"{count} calls of one transaction, from the first call to the last end, {PROCESSES} worker processes",
        speeds=speeds["ours"],
        unit="calls/s",
        reference=REFERENCE,
        reference_speeds=speeds[REFERENCE],
        details={"inserted_per_s": round(median(inserts)), "sent_per_s": round(median(sends))},
    )


def _calls(conn: Connection, worker: Process, count: int) -> tuple[float, float]:
    """Calls, and waits for all to be done; the seconds until the commit, and from there until all are sent."""
    from bench.scheduled.messaging import durable_nothing

    conn.execute("truncate scheduling_run cascade")
    committed: list[float] = []
    started = time.perf_counter()
    with transaction.atomic():
        transaction.on_commit(lambda: committed.append(time.perf_counter()))
        for _ in range(count):
            durable_nothing()
    sent = time.perf_counter()
    undone = "select count(*) from scheduling_run where state in ('ready', 'running')"
    workers.until(lambda: conn.execute(undone).fetchall()[0][0] == 0, worker, "all calls are done")
    return committed[0] - started, sent - committed[0]


def _celery_tasks(worker: Process, count: int) -> float:
    """Sends them one after the other, as `delay` does; done a second."""
    from bench.scheduled import tasks
    from scheduling import identity

    tasks.client().delete(tasks.COUNTER)
    queue = identity.queue_name()
    started = time.perf_counter()
    for _ in range(count):
        tasks.celery_nothing.apply_async(queue=queue)
    workers.until(lambda: int(tasks.client().get(tasks.COUNTER) or 0) >= count, worker, "all tasks are done")
    return count / (time.perf_counter() - started)


def _handed_out_again(conn: Connection, rounds: int) -> Measurement:
    waited: list[float] = []
    with task_processes.leading_beat(conn):
        for _ in range(rounds):
            waited += _killed(conn)
    return Measurement(
        group=GROUP,
        what="calls whose worker is killed, until another worker has claimed them",
        speeds=(LOST_GOAL_SECONDS,),
        unit="s wanted",
        reference="the longest measured, s",
        reference_speeds=(max(waited),),
        goal=1.0,
        details={"shortest_s": round(min(waited), 2), "median_s": round(median(waited), 2), "calls": len(waited)},
    )


def _killed(conn: Connection) -> list[float]:
    """Seconds that each of the calls waited."""
    from bench.scheduled.messaging import durable_nothing, durable_waiting

    conn.execute("truncate scheduling_run cascade")
    arguments = task_processes.worker_arguments(LOST_CALLS)
    with tempfile.TemporaryDirectory() as directory, task_processes.running(arguments) as victim:
        end = Path(directory) / "end"
        for begun in range(1, LOST_CALLS + 1):
            durable_waiting(str(end))
            workers.until(lambda: _attempts(conn, 1) == begun, victim, "a call is begun")  # noqa: B023 - called here
            time.sleep(random.uniform(0, STAGGER_SECONDS))  # their leases are renewed at different times
        with task_processes.running(arguments) as other:
            call = durable_nothing()  # the other one has no process free
            workers.until(lambda: call.state() == "succeeded", other, "another worker is there")
            time.sleep(random.uniform(0, STAGGER_SECONDS))
            started = time.monotonic()
            kill(victim)
            waited: list[float] = []

            def is_over() -> bool:
                waited.extend([time.monotonic() - started] * (_attempts(conn, 2) - len(waited)))
                return len(waited) >= LOST_CALLS

            workers.until(is_over, other, "all calls are handed out again")
            end.touch()
            undone = "select count(*) from scheduling_run where ended_at is null"
            workers.until(lambda: conn.execute(undone).fetchall()[0][0] == 0, other, "all calls are done")
    return waited


def _attempts(conn: Connection, number: int) -> int:
    """Calls that wait for their file, and have been begun so often."""
    rows = conn.execute(
        "select count(*) from scheduling_run where function = 'bench.durable-waiting' and attempts >= %s", [number]
    ).fetchall()
    return int(str(rows[0][0]))
