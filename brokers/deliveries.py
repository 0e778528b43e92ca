"""One record on its way to one consumer's handler, and the attempts at it so far.

Attempts are kept from the first failure to the record's end: handled, they are forgotten in the handler's own
transaction; given up, they go with the dead letter. An attempt that must be counted even if it kills the worker is
written before the call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple

from psycopg.types.json import Jsonb

from brokers.database import sync_cursor
from brokers.failure import Failure
from brokers.record import Record
from brokers.sql import load

SQL = load("deliveries")

_KEPT_MS: Final = 3_600_000
_ROWS_AT_ONCE: Final = 1000
_CLASS_LENGTH: Final = 300
_WORKER_LENGTH: Final = 200


class Redelivered(NamedTuple):
    """The row of the redelivery lane that a record came from."""

    id: int
    cause: str
    """`retry` or `replay`."""
    dead_letter_id: int | None
    replay_item_id: int | None
    revision: int
    first_failed_at: datetime | None


@dataclass(slots=True)
class Delivery:
    """A record and whom it is delivered to; `record.attempt` counts from 1 for each reading and each redelivery."""

    group: str
    group_id: int
    handler: str
    """Dotted name of the handler."""
    partition_id: int
    record: Record
    redelivery: Redelivered | None = None
    idempotency_key: str | None = None
    """What the handler's `@idempotent` calls the record, as far as that is known."""

    @property
    def redelivery_id(self) -> int:
        """0 for the reading of the log."""
        return 0 if self.redelivery is None else self.redelivery.id


class Attempt(NamedTuple):
    """One call of the handler; without `ended_at` the worker was lost in it."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    exception_class: str
    delay_ms: int | None


def pending(group_id: int, partition_id: int, from_offset: int) -> dict[int, list[Attempt]]:
    """The attempts so far at records of a partition from an offset on, oldest first, by offset."""
    return _gathered(SQL.pending, (group_id, partition_id, from_offset))


def pending_redeliveries(ids: Iterable[int]) -> dict[int, list[Attempt]]:
    """The same for records of the redelivery lane, by the redelivery's id."""
    return _gathered(SQL.pending_redeliveries, (list(ids),))


def _gathered(statement: LiteralString, parameters: tuple[Any, ...]) -> dict[int, list[Attempt]]:
    found: dict[int, list[Attempt]] = {}
    with sync_cursor() as cursor:
        for place, *attempt in cursor.execute(statement, parameters).fetchall():
            found.setdefault(place, []).append(Attempt(*attempt))
    return found


def back_off_left(group_id: int, partition_id: int, offset: int) -> float:
    """Seconds, by the database's clock, until the back-off after a record's last attempt is over."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.back_off_left, (group_id, partition_id, offset)).fetchone()
    return 0.0 if row is None or row[0] is None else float(row[0])


def begin(delivery: Delivery, number: int, worker: str) -> None:
    """Counts an attempt before the call: if nobody ends it, the worker was lost in it. Commits by itself."""
    with sync_cursor() as cursor:
        cursor.execute(SQL.begin, (*_place(delivery), number, worker))


def withdraw(delivery: Delivery, number: int, worker: str) -> None:
    """Takes back an attempt of this worker's that was begun: not the record but the database ended it."""
    with sync_cursor() as cursor:
        cursor.execute(SQL.withdraw, (*_place(delivery), number, worker))


def failed(
    delivery: Delivery, number: int, duration_ms: int, failure: Failure, delay_ms: int | None, worker: str
) -> None:
    """Keeps an attempt that failed, begun or not; `delay_ms` is the back-off after it, None when it was the last.

    In the caller's transaction, which is the one that commits what came before the record.
    """
    all_failed([delivery], [number], duration_ms, failure, delay_ms, worker)


def all_failed(
    deliveries: Sequence[Delivery],
    numbers: Sequence[int],
    duration_ms: int,
    failure: Failure,
    delay_ms: int | None,
    worker: str,
) -> None:
    """`failed` for records of one partition that failed together, as a batch."""
    row = {
        "group": deliveries[0].group_id,
        "partition": deliveries[0].partition_id,
        "offsets": [delivery.record.offset for delivery in deliveries],
        "redeliveries": [delivery.redelivery_id for delivery in deliveries],
        "numbers": list(numbers),
        "duration_ms": duration_ms,
        "error": failure.message,
        "exception_class": failure.exception_class[:_CLASS_LENGTH],
        "stacktrace": failure.stacktrace,
        "frames": Jsonb([frame._asdict() for frame in failure.frames]),
        "delay_ms": delay_ms,
        "worker": worker[:_WORKER_LENGTH],
    }
    with sync_cursor() as cursor:
        cursor.execute(SQL.failed, row)


def follow_into_lane(delivery: Delivery) -> None:
    """Gives the attempts at a record that was just parked (same transaction) to its new place in the lane."""
    with sync_cursor() as cursor:
        cursor.execute(SQL.follow_into_lane, _place(delivery)[:3])


def forget(deliveries: Iterable[Delivery]) -> None:
    """Removes the attempts at records that are handled now, in the transaction of their effects."""
    places = [_place(delivery) for delivery in deliveries]
    if places:
        with sync_cursor() as cursor:
            cursor.execute(SQL.forget, tuple(map(list, zip(*places, strict=True))))


def purge() -> int:
    """Removes attempts older than an hour at records that nobody will come to again: how many. Commits by itself."""
    with sync_cursor() as cursor:
        return cursor.execute(SQL.purge, (_KEPT_MS, _ROWS_AT_ONCE)).rowcount


def _place(delivery: Delivery) -> tuple[int, int, int, int]:
    return delivery.group_id, delivery.partition_id, delivery.record.offset, delivery.redelivery_id
