"""How long no due time is fired when the beat that leads is killed, with two others there.

A task is due ten times a second. The time runs from SIGKILL to the arrival of the first message of a run that another
beat has fired. The killed beat is started again before the next round; kills come at random moments of the lease.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime

from django.conf import settings

from bench import stores, task_processes, workers
from bench.doorbells import Doorbell
from bench.measurement import Measurement
from bench.rounds import Extent, median
from bench.scheduled.messaging import OFTEN
from bench.task_processes import Connection
from messaging_site.processes import Process

GROUP = "scheduling"
GOAL_SECONDS = 6.0
BEATS = 3
PATIENCE_SECONDS = 30.0


def measure(extent: Extent) -> Iterator[Measurement]:
    """As many take-overs as the extent says."""
    from scheduling import identity
    from scheduling.beat.leadership import RENEW_SECONDS

    taken: list[float] = []
    with stores.bare_connection() as conn, ExitStack() as stack:
        task_processes.declare(conn)
        beats: dict[int, Process] = {}

        def start() -> None:
            process = task_processes.start(task_processes.beat_arguments())
            beats[process.pid] = process
            stack.callback(task_processes.end, process)

        for _ in range(BEATS):
            start()
        workers.until(lambda: task_processes.leader(conn) in beats, None, "a beat leads")
        task_processes.set_due(conn, {OFTEN: datetime.now(UTC)})
        doorbell = stack.enter_context(closing(Doorbell(conn, settings.REDIS_URL, identity.queue_name())))
        for _ in range(extent.take_overs):
            _until_all_look(conn, doorbell)
            killed = _leader(conn)
            time_left = time.monotonic() + random.uniform(0, RENEW_SECONDS)
            doorbell.take_until(lambda _: time.monotonic() >= time_left, PATIENCE_SECONDS, "a moment of the lease")  # noqa: B023 - called here
            taken.append(_take_over(conn, doorbell, beats.pop(killed)))
            start()
    with stores.bare_connection() as conn:
        task_processes.forget(conn)
    yield Measurement(
        group=GROUP,
        what=f"take-over of the first of {BEATS} beats after SIGKILL, until the next due time is handed out",
        speeds=(GOAL_SECONDS,),
        unit="s wanted",
        reference="the longest measured, s",
        reference_speeds=(max(taken),),
        goal=1.0,
        details={"shortest_s": round(min(taken), 2), "median_s": round(median(taken), 2), "rounds": len(taken)},
    )


def _leader(conn: Connection) -> int:
    found: list[int] = []

    def is_found() -> bool:
        leader = task_processes.leader(conn)
        found.extend([] if leader is None else [leader])
        return bool(found)

    workers.until(is_found, None, "a beat leads")
    return found[-1]


def _until_all_look(conn: Connection, doorbell: Doorbell) -> None:
    """Until every beat has looked at the lock, which it does on a session of its own."""
    sessions = "select count(*) from pg_stat_activity where application_name = 'waystation-locks'"
    doorbell.take_until(
        lambda _: int(str(conn.execute(sessions).fetchall()[0][0])) >= BEATS, PATIENCE_SECONDS, "all beats are there"
    )


def _take_over(conn: Connection, doorbell: Doorbell, leader: Process) -> float:
    """Seconds."""
    begin = time.time()
    leader.kill()
    leader.wait()
    rings = doorbell.take_until(
        lambda rings: bool(rings) and rings[-1].at - begin > 1.0, PATIENCE_SECONDS, "another beat hands runs out"
    )
    fired_by = conn.execute(
        "select id, fired_by from scheduling_run where id = any(%s)", [[ring.run for ring in rings]]
    ).fetchall()
    others = {run for run, holder in fired_by if int(str(holder).split(":")[-2]) != leader.pid}
    return min(ring.at for ring in rings if ring.run in others) - begin
