"""How late scheduled tasks begin: a thousand tasks, due spread over a minute, and due all in one instant.

Two figures. *Handed out*: from the due time to the arrival of the run's message at whoever waits for it in Valkey,
which is the beat alone. *Claimed*: from the due time to the run's `started_at`, when a worker's claim was written,
with a worker of two processes. Beside the first figure, in turn: the scheduler that django-celery-beat comes with, and
a bare loop, which tells what of it is the machine's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings

from bench import other_beats, stores, task_processes, workers
from bench.doorbells import Doorbell
from bench.measurement import Measurement
from bench.other_beats import Lateness, due_times, patience
from bench.rounds import Extent, percentile
from bench.scheduled.messaging import TASKS, name
from bench.task_processes import Connection

GROUP = "scheduling"
MINUTE_SECONDS = 60.0
SPREAD_GOAL_MS = 20.0
INSTANT_GOAL_MS = 1000.0
LEAD_SECONDS = 2.5
"""From writing the due times to the first of them."""
WORKER_PROCESSES = 2
OURS = "by the leading beat"
BARE = "by a bare loop"
STOCK = "by django-celery-beat's own scheduler"


@dataclass(frozen=True)
class Plan:
    """When each of the thousand tasks is due, in seconds from the beginning, and how many of them a round waits for."""

    what: str
    offsets: Sequence[float]
    counted: int
    warm_up: int
    """The first due times of a round, which are left out: beats connect then."""
    goal_ms: float


def plans(extent: Extent) -> tuple[Plan, Plan]:
    """Spread over a minute, of which a round sees a part; and all at once."""
    step = MINUTE_SECONDS / TASKS
    seen = min(TASKS, int(extent.jitter_seconds / step))
    return (
        Plan(
            f"{TASKS} tasks due within a minute, {extent.jitter_seconds:.0f} s of it",
            [number * step for number in range(TASKS)],
            seen,
            1,
            SPREAD_GOAL_MS,
        ),
        Plan(f"{TASKS} tasks due in the same instant", [0.0] * TASKS, TASKS, 0, INSTANT_GOAL_MS),
    )


def measure(extent: Extent) -> Iterator[Measurement]:
    """Both plans, each handed out and claimed."""
    with stores.bare_connection() as conn:
        for plan in plans(extent):
            sides: dict[str, Callable[[], Lateness]] = {
                OURS: partial(_handed_out, conn, plan),
                BARE: partial(other_beats.bare, conn, plan.offsets, plan.counted),
                STOCK: partial(other_beats.stock, conn, plan.offsets, plan.counted),
            }
            taken: dict[str, list[Lateness]] = {side: [] for side in sides}
            order = list(sides)
            for number in range(extent.rounds):
                for side in order:
                    if side != STOCK or number < extent.stock_rounds:
                        taken[side].append(sides[side]()[plan.warm_up :])
                order.reverse()
            what = f"{plan.what}: due to handed out"
            yield _wanted(plan, what, taken[OURS])
            yield _compared(f"{what} {BARE}", taken[BARE], taken[OURS])
            yield _compared(f"{what} {STOCK}", taken[STOCK], taken[OURS])
            yield _wanted(plan, f"{plan.what}: due to claimed by a worker", _claimed(conn, plan, extent.rounds))
        task_processes.forget(conn)


def _together(rounds: list[Lateness]) -> Lateness:
    return sorted(value for lateness in rounds for value in lateness)


def _p99(rounds: list[Lateness]) -> float:
    return percentile(_together(rounds), 0.99)


def _spread_of(rounds: list[Lateness]) -> dict[str, float]:
    every = _together(rounds)
    return {
        "p50_ms": round(percentile(every, 0.5), 2),
        "p99_ms": round(percentile(every, 0.99), 2),
        "max_ms": round(every[-1], 2),
        "due_times": len(every),
    }


def _wanted(plan: Plan, what: str, rounds: list[Lateness]) -> Measurement:
    return Measurement(
        group=GROUP,
        what=f"{what}, p99",
        speeds=(plan.goal_ms,),
        unit="ms wanted",
        reference="measured, ms",
        reference_speeds=(_p99(rounds),),
        goal=1.0,
        details=_spread_of(rounds),
    )


def _compared(what: str, theirs: list[Lateness], ours: list[Lateness]) -> Measurement:
    return Measurement(
        group=GROUP,
        what=f"{what}, p99",
        speeds=(_p99(theirs),),
        unit="ms theirs",
        reference="ours, ms",
        reference_speeds=(_p99(ours),),
        details=_spread_of(theirs),
    )


def _due_times(plan: Plan) -> list[datetime]:
    return due_times(plan.offsets, LEAD_SECONDS)


def _handed_out(conn: Connection, plan: Plan) -> Lateness:
    """By the product's beat, with nobody but this process waiting for the messages."""
    from scheduling import identity

    task_processes.declare(conn)
    with (
        closing(Doorbell(conn, settings.REDIS_URL, identity.queue_name())) as doorbell,
        task_processes.leading_beat(conn),
    ):
        dues = _due_times(plan)
        task_processes.set_due(conn, {name(number): due for number, due in enumerate(dues)})
        rings = doorbell.take_until(
            lambda rings: len(rings) >= plan.counted, patience(plan.offsets, plan.counted), "all runs are rung for"
        )
    found = conn.execute("select id, due_at from scheduling_run").fetchall()
    due_at: dict[Any, Any] = dict(found)  # type: ignore[arg-type]
    return [(ring.at - due_at[ring.run].timestamp()) * 1000 for ring in rings[: plan.counted]]


def _claimed(conn: Connection, plan: Plan, rounds: int) -> list[Lateness]:
    """By the product's beat and its task worker."""
    taken: list[Lateness] = []
    task_processes.declare(conn)
    with (
        task_processes.running(task_processes.worker_arguments(WORKER_PROCESSES)) as worker,
        task_processes.leading_beat(conn),
    ):
        _warm_up(conn, worker)
        for _ in range(rounds):
            conn.execute("delete from scheduling_run where ended_at is not null")
            dues = _due_times(plan)
            task_processes.set_due(conn, {name(number): due for number, due in enumerate(dues)})
            last = dues[plan.counted - 1]
            workers.until(partial(_all_ended, conn, last, plan.counted), worker, "all runs are done")
            rows = conn.execute(
                "select extract(epoch from started_at - due_at)::float8 * 1000 from scheduling_run"
                " where trigger = 'schedule' and due_at <= %s",
                [last],
            ).fetchall()
            taken.append([float(str(row[0])) for row in rows])
            not_now = datetime.now(UTC) + timedelta(hours=1)
            task_processes.set_due(conn, {name(number): not_now for number in range(TASKS)})
    return taken


def _all_ended(conn: Connection, last: datetime, count: int) -> bool:
    time.sleep(0.2)  # between looks, which cost the worker something
    rows = conn.execute(
        "select count(*) from scheduling_run where trigger = 'schedule' and due_at <= %s and ended_at is not null",
        [last],
    ).fetchall()
    return int(str(rows[0][0])) >= count


def _warm_up(conn: Connection, worker: Any) -> None:
    """Has each process of the worker connect, and load what it loads at its first run."""
    from brokers import audit
    from scheduling.tasks import control

    for number in range(10 * WORKER_PROCESSES):
        control.run_now(name(number), actor=audit.COMMAND)
    done = "select count(*) from scheduling_run where ended_at is not null"
    workers.until(lambda: conn.execute(done).fetchall()[0][0] == 10 * WORKER_PROCESSES, worker, "the worker works")
