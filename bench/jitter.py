"""How late scheduled tasks begin: a thousand tasks, due spread over a minute, and due all in one instant.

Two figures. *Handed out*: from the due time to the arrival of the run's message at whoever waits for it in Valkey,
which is the beat alone. *Claimed*: from the due time to the run's `started_at`, when a worker's claim was written,
with a worker of two processes. Against the scheduler that django-celery-beat comes with, in turn, for the first figure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings

from bench import stores, task_processes, workers
from bench.doorbells import Doorbell
from bench.measurement import Measurement
from bench.rounds import Extent, percentile
from bench.scheduled.messaging import TASKS, name
from bench.task_processes import Connection

GROUP = "scheduling"
MINUTE_SECONDS = 60.0
SPREAD_GOAL_MS = 20.0
INSTANT_GOAL_MS = 1000.0
LEAD_SECONDS = 2.5
"""From writing the due times to the first of them."""
STOCK_LEADS_SECONDS = (6.0, 12.0, 24.0)
"""The same for the stock scheduler, which has to be started in between: the next one, if it was not in time."""
LATE_SECONDS = 60.0
WORKER_PROCESSES = 2


@dataclass(frozen=True)
class Plan:
    """When each of the thousand tasks is due, in seconds from the beginning, and how many of them a round waits for."""

    what: str
    offsets: Sequence[float]
    counted: int
    goal_ms: float


Lateness = list[float]
"""In milliseconds, one for each due time."""


def plans(extent: Extent) -> tuple[Plan, Plan]:
    """Spread over a minute, of which a round sees a part; and all at once."""
    step = MINUTE_SECONDS / TASKS
    seen = min(TASKS, int(extent.jitter_seconds / step))
    return (
        Plan(
            f"{TASKS} tasks due within a minute, {extent.jitter_seconds:.0f} s of it",
            [number * step for number in range(TASKS)],
            seen,
            SPREAD_GOAL_MS,
        ),
        Plan(f"{TASKS} tasks due in the same instant", [0.0] * TASKS, TASKS, INSTANT_GOAL_MS),
    )


def measure(extent: Extent) -> Iterator[Measurement]:
    """Both plans, each handed out and claimed."""
    with stores.bare_connection() as conn:
        for plan in plans(extent):
            ours: list[Lateness] = []
            stock: list[Lateness] = []
            for number in range(extent.rounds):
                is_stocks_turn = number < extent.stock_rounds
                if is_stocks_turn and number % 2:
                    stock.append(_by_stock_beat(conn, plan))
                ours.append(_handed_out(conn, plan))
                if is_stocks_turn and not number % 2:
                    stock.append(_by_stock_beat(conn, plan))
            yield _wanted(plan, f"{plan.what}: due to handed out", ours)
            yield _against_stock(plan, ours, stock)
            yield _wanted(plan, f"{plan.what}: due to claimed by a worker", _claimed(conn, plan, extent.rounds))
        task_processes.forget(conn)


def _p99(lateness: Lateness) -> float:
    return percentile(sorted(lateness), 0.99)


def _spread_of(rounds: list[Lateness]) -> dict[str, float]:
    every = sorted(value for lateness in rounds for value in lateness)
    return {
        "p50_ms": round(percentile(every, 0.5), 2),
        "p99_ms": round(percentile(every, 0.99), 2),
        "max_ms": round(every[-1], 2),
    }


def _wanted(plan: Plan, what: str, rounds: list[Lateness]) -> Measurement:
    return Measurement(
        group=GROUP,
        what=f"{what}, p99",
        speeds=(plan.goal_ms,),
        unit="ms wanted",
        reference="measured, ms",
        reference_speeds=tuple(map(_p99, rounds)),
        goal=1.0,
        details=_spread_of(rounds),
    )


def _against_stock(plan: Plan, ours: list[Lateness], stock: list[Lateness]) -> Measurement:
    return Measurement(
        group=GROUP,
        what=f"{plan.what}: due to handed out by django-celery-beat's own scheduler, p99",
        speeds=tuple(map(_p99, stock)),
        unit="ms by the other",
        reference="ours, ms",
        reference_speeds=tuple(map(_p99, ours)),
        details=_spread_of(stock),
    )


def _due_times(plan: Plan, lead_seconds: float) -> list[datetime]:
    begin = datetime.now(UTC) + timedelta(seconds=lead_seconds)
    return [begin + timedelta(seconds=offset) for offset in plan.offsets]


def _patience(plan: Plan) -> float:
    return plan.offsets[plan.counted - 1] + LATE_SECONDS


def _handed_out(conn: Connection, plan: Plan) -> Lateness:
    """By the product's beat, with nobody but this process waiting for the messages."""
    from scheduling import identity

    task_processes.declare(conn)
    with (
        closing(Doorbell(conn, settings.REDIS_URL, identity.queue_name())) as doorbell,
        task_processes.leading_beat(conn),
    ):
        dues = _due_times(plan, LEAD_SECONDS)
        task_processes.set_due(conn, {name(number): due for number, due in enumerate(dues)})
        rings = doorbell.take_until(lambda rings: len(rings) >= plan.counted, _patience(plan), "all runs are rung for")
    found = conn.execute("select id, due_at from scheduling_run").fetchall()
    due_at: dict[Any, Any] = dict(found)  # type: ignore[arg-type]
    return [(ring.at - due_at[ring.run].timestamp()) * 1000 for ring in rings[: plan.counted]]


def _by_stock_beat(conn: Connection, plan: Plan) -> Lateness:
    """Raises `WorkerFailed` when the stock scheduler does not start in time."""
    for lead_seconds in STOCK_LEADS_SECONDS:
        taken = _stock_round(conn, plan, lead_seconds)
        if taken is not None:
            return taken
    raise workers.WorkerFailed(f"the stock scheduler was not started within {STOCK_LEADS_SECONDS[-1]:.0f} s")


def _stock_round(conn: Connection, plan: Plan, lead_seconds: float) -> Lateness | None:
    """By django-celery-beat's `DatabaseScheduler`, with as many periodic tasks whose intervals end at those times.

    None when it was not started before the first of them.
    """
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    from scheduling import identity

    task_processes.forget(conn)
    queue = identity.queue_name()
    hourly = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.HOURS)[0]
    task = partial(PeriodicTask, task="bench.nothing", interval=hourly, queue=queue)
    dues = _due_times(plan, lead_seconds)
    hour = timedelta(hours=1)
    try:
        PeriodicTask.objects.bulk_create(
            [
                task(name=name(number), args=f"[{number}]", last_run_at=due - hour, date_changed=due - hour)
                for number, due in enumerate(dues)
            ]
        )
        with (
            closing(Doorbell(conn, settings.REDIS_URL, queue)) as doorbell,
            task_processes.running(task_processes.stock_beat_arguments()) as process,
        ):
            workers.until(lambda: _loaded(conn), process, "the stock scheduler has read its table")
            if datetime.now(UTC) >= dues[0] - timedelta(seconds=0.5):
                return None
            rings = doorbell.take_until(lambda rings: len(rings) >= plan.counted, _patience(plan), "all tasks are sent")
    finally:
        PeriodicTask.objects.all().delete()
    return [(ring.at - dues[ring.run].timestamp()) * 1000 for ring in rings[: plan.counted]]


def _loaded(conn: Connection) -> bool:
    """Whether the stock scheduler has written the row that it wants to find among those that it reads then."""
    row = "select from django_celery_beat_periodictask where name = 'celery.backend_cleanup'"
    return bool(conn.execute(row).fetchall())


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
            dues = _due_times(plan, LEAD_SECONDS)
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
