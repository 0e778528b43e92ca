"""What the product's beat is compared with: django-celery-beat's own scheduler, and a bare loop of INSERT and LPUSH.

Each hands out tasks at due times that are given as seconds from a beginning, and is asked for how late the first
`counted` messages came. Called by `bench.jitter`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from django.conf import settings

from bench import task_processes, workers
from bench.doorbells import Doorbell, Ring
from bench.scheduled.messaging import name
from bench.task_processes import Connection

STOCK_LEADS_SECONDS = (6.0, 12.0, 24.0)
"""From writing the due times to the first of them, for a scheduler to start: the next one, if it was not in time."""
LATE_SECONDS = 60.0
LOADED_SECONDS = 0.5
INTERVAL = timedelta(hours=1)
_BARE_LEAD_SECONDS = 4.0

Lateness = list[float]
"""In milliseconds, one for each due time."""


def due_times(offsets: Sequence[float], lead_seconds: float) -> list[datetime]:
    """From now on."""
    begin = datetime.now(UTC) + timedelta(seconds=lead_seconds)
    return [begin + timedelta(seconds=offset) for offset in offsets]


def patience(offsets: Sequence[float], counted: int) -> float:
    """Seconds to wait for that many messages."""
    return offsets[counted - 1] + LATE_SECONDS


def bare(conn: Connection, offsets: Sequence[float], counted: int) -> Lateness:
    """By `bench.bare_beat`."""
    from brokers.database import conninfo

    queue = "bench-bare"
    conn.execute("drop table if exists bench_bare_run")
    conn.execute("create table bench_bare_run (id bigint primary key, due float8 not null)")
    dues = due_times(offsets[:counted], _BARE_LEAD_SECONDS)
    with tempfile.TemporaryDirectory() as directory, closing(Doorbell(conn, settings.REDIS_URL, queue)) as doorbell:
        file = Path(directory) / "dues"
        file.write_text("".join(f"{due.timestamp()}\n" for due in dues), encoding="utf-8")
        arguments = ["-m", "bench.bare_beat", str(file), queue, settings.REDIS_URL, conninfo()]
        with task_processes.running(arguments):
            rings = doorbell.take_until(lambda rings: len(rings) >= counted, patience(offsets, counted), "all is sent")
    conn.execute("drop table bench_bare_run")
    return _lateness(rings, dues)


def stock(conn: Connection, offsets: Sequence[float], counted: int) -> Lateness:
    """By django-celery-beat's `DatabaseScheduler`; raises `WorkerFailed` when it does not start in time."""
    for lead_seconds in STOCK_LEADS_SECONDS:
        taken = _stock_round(conn, offsets, counted, lead_seconds)
        if taken is not None:
            return taken
    raise workers.WorkerFailed(f"the stock scheduler was not started within {STOCK_LEADS_SECONDS[-1]:.0f} s")


def _stock_round(conn: Connection, offsets: Sequence[float], counted: int, lead_seconds: float) -> Lateness | None:
    """With as many periodic tasks, whose intervals end at those times; None when it was not started before them."""
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    from scheduling import identity

    task_processes.forget(conn)
    queue = identity.queue_name()
    hourly = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.HOURS)[0]
    task = partial(PeriodicTask, task="bench.nothing", interval=hourly, queue=queue)
    dues = due_times(offsets, lead_seconds)
    try:
        PeriodicTask.objects.bulk_create(
            [
                task(name=name(number), args=f"[{number}]", last_run_at=due - INTERVAL, date_changed=due - INTERVAL)
                for number, due in enumerate(dues)
            ]
        )
        with (
            closing(Doorbell(conn, settings.REDIS_URL, queue)) as doorbell,
            task_processes.running(task_processes.stock_beat_arguments()) as process,
        ):
            workers.until(partial(_is_loaded, conn), process, "the stock scheduler has read its table")
            if datetime.now(UTC) >= dues[0] - timedelta(seconds=LOADED_SECONDS):
                return None
            rings = doorbell.take_until(lambda rings: len(rings) >= counted, patience(offsets, counted), "all is sent")
    finally:
        PeriodicTask.objects.all().delete()
    return _lateness(rings[:counted], dues)


def _is_loaded(conn: Connection) -> bool:
    """Whether the stock scheduler has written the row that it wants to find among those that it reads then."""
    row = "select from django_celery_beat_periodictask where name = 'celery.backend_cleanup'"
    return bool(conn.execute(row).fetchall())


def _lateness(rings: Sequence[Ring], dues: Sequence[datetime]) -> Lateness:
    return [(ring.at - dues[ring.run].timestamp()) * 1000 for ring in rings]
