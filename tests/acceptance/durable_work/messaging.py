"""Durable functions that write down, in a table that the test has made, that they began and what they did."""

from __future__ import annotations

import os
import threading

from django.db import connection

from brokers import FixedBackOff
from scheduling import background, current_call

WAIT_SECONDS = 90.0


def note(what: str, name: str) -> int:
    """One line of the test's table, at once; answers the attempt."""
    call = current_call()
    assert call is not None
    with connection.cursor() as cursor:
        values: list[str | int] = [what, name, call.attempt, os.getpid()]
        cursor.execute("insert into noted (what, name, attempt, pid) values (%s, %s, %s, %s)", values)
    return call.attempt


def wait_for(name: str) -> None:
    """Returns once the test lets it go on."""
    patience = threading.Event()
    for _ in range(int(WAIT_SECONDS / 0.1)):
        with connection.cursor() as cursor:
            cursor.execute("select from noted where what = 'go on' and name = %s", [name])
            if cursor.rowcount:
                return
        patience.wait(0.1)


@background(durable=True, name="reports.export")
def export(name: str) -> dict[str, int]:
    """The first attempt stands still in its middle until the test says so; the effect is its last line."""
    attempt = note("began", name)
    if attempt == 1:
        wait_for(name)
    note("effect", name)
    return {"attempt": attempt}


@background(durable=True, name="orders.ship", retry=FixedBackOff(interval_ms=100, max_retries=1))
def ship(order: int, *, to: str) -> str:
    """Ships orders above a hundred."""
    if order < 100:
        raise LookupError(f"there is no order {order}")
    note("effect", f"{order} to {to}")
    return to
