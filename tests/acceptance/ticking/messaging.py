"""Tasks that are due often. Each writes when it began and when it ended, into a table that the test has made."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from scheduling import scheduled

BEGIN = """
insert into ticking_effect (task, process, began_at, run)
select %(task)s, %(process)s, clock_timestamp(),
       (select id from scheduling_run where process = %(process)s and function = %(task)s
        order by started_at desc nulls last limit 1)
returning id
"""
END = "update ticking_effect set ended_at = clock_timestamp() where id = %s"


@contextmanager
def effect(task: str) -> Iterator[None]:
    """A row of the run that this process does; its end is written at the end of the block."""
    with connection.cursor() as cursor:
        cursor.execute(BEGIN, {"task": task, "process": f"{socket.gethostname()}:{os.getpid()}"})
        (number,) = cursor.fetchone()
    yield
    with connection.cursor() as cursor:
        cursor.execute(END, [number])


@scheduled(fixed_rate="PT1S", name="rate-a", overlap="allow")
def rate_a() -> None:
    """Due each second; its runs may overlap."""
    with effect("rate-a"):
        pass


@scheduled(fixed_rate="PT0.5S", name="rate-b", overlap="allow")
def rate_b() -> None:
    """Due twice a second."""
    with effect("rate-b"):
        pass


@scheduled(fixed_rate="PT1S", name="slow", overlap="skip")
def slow() -> None:
    """Takes long enough to be killed in its midst."""
    with effect("slow"):
        time.sleep(0.4)


@scheduled(fixed_rate="PT1S", name="locked-a", overlap="skip", lock="ticking", lock_at_most_for="PT30S")
def locked_a() -> None:
    """Never beside `locked-b`."""
    with effect("locked-a"):
        time.sleep(0.05)


@scheduled(cron="* * * * * *", name="locked-b", overlap="skip", lock="ticking", lock_at_most_for="PT30S")
def locked_b() -> None:
    """Never beside `locked-a`."""
    with effect("locked-b"):
        time.sleep(0.05)


@scheduled(cron="* * * * * *", name="cron-queued", zone="Europe/Berlin", overlap="queue")
def cron_queued() -> None:
    """Due at each full second, one run after the other."""
    with effect("cron-queued"):
        pass


@scheduled(cron="0/2 * * * * *", name="cron-skipping", zone="America/New_York", overlap="skip")
def cron_skipping() -> None:
    """Due at each even second."""
    with effect("cron-skipping"):
        pass


@scheduled(fixed_delay="PT0.7S", name="delayed")
def delayed() -> None:
    """Due again after its end."""
    with effect("delayed"):
        pass


@scheduled(initial_delay="PT0.2S", name="one-time")
def one_time() -> None:
    """Due one time."""
    with effect("one-time"):
        pass
