"""Failed attempts at messages, kept while the message is in its queue.

With the message they end (`brokers_queue_remove`), or become those of its dead letter. Called by queue listeners.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from psycopg.types.json import Jsonb

from brokers.database import sync_cursor
from brokers.deliveries import Attempt
from brokers.failure import Failure
from brokers.queues.message import Message
from brokers.sql import load

SQL = load("attempts")

_CLASS_LENGTH: Final = 300
_WORKER_LENGTH: Final = 250


def failed(
    message: Message, number: int, duration_ms: int, failure: Failure, delay_ms: int | None, worker: str
) -> bool:
    """Keeps an attempt of so many milliseconds in the caller's transaction; False when the claim does not hold.

    `delay_ms` is the back-off after it, None when it was the last one.
    """
    row = {
        "message": message.row,
        "token": message.token,
        "number": number,
        "duration_ms": duration_ms,
        "error": failure.message,
        "exception_class": failure.exception_class[:_CLASS_LENGTH],
        "stacktrace": failure.stacktrace,
        "frames": Jsonb([frame._asdict() for frame in failure.frames]),
        "delay_ms": delay_ms,
        "worker": worker[:_WORKER_LENGTH],
    }
    with sync_cursor() as cursor:
        return cursor.execute(SQL.failed, row).rowcount == 1


def of(rows: Iterable[int]) -> dict[int, list[Attempt]]:
    """The attempts so far at messages, oldest first, by the message's row."""
    found: dict[int, list[Attempt]] = {}
    with sync_cursor() as cursor:
        for row, *attempt in cursor.execute(SQL.of, (list(rows),)).fetchall():
            found.setdefault(row, []).append(Attempt(*attempt))
    return found
