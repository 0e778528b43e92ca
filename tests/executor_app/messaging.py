"""Work of some length for an executor. Each piece is written down, into a table that the test has made."""

from __future__ import annotations

import os
import time
from typing import Any

from django.db import connection

from brokers import topic, topic_listener
from brokers.record import Record
from realtime import message_mapping
from scheduling import Executor, scheduled

WORK = "insert into executor_work (process, number) values (%s, %s)"

topic("work", partitions=1)
slow = Executor("slow", core=1, queue_capacity=20)
unused = Executor("unused", core=2, max=4, queue_capacity=5, rejection="discard")


def work(number: int, seconds: float) -> None:
    """One piece."""
    time.sleep(seconds)
    with connection.cursor() as cursor:
        cursor.execute(WORK, [os.getpid(), number])


def submit(count: int, seconds: float) -> None:
    """Many pieces, one after the other."""
    for number in range(count):
        slow.submit(work, number, seconds)


@message_mapping("/work")
def from_web(payload: dict[str, Any]) -> None:
    """Hands over as much as was asked for."""
    submit(payload["count"], payload["seconds"])


@topic_listener("work", group="work")
def from_listener(record: Record) -> None:
    """The same, in a listener."""
    submit(record.value["count"], record.value["seconds"])


@scheduled(cron="0 0 0 1 1 *", name="hand over", lock="handing-over")
def from_task() -> dict[str, int]:
    """Hands over a few pieces, in a task worker."""
    submit(6, 0.4)
    return {"handed_over": 6}
