"""Storing routed messages: one statement for any number of messages and all queues that they reach.

Below routing and limits: `sending` publishes through it, dead-lettering and moving pass messages on. All of it is in
the caller's transaction, or a transaction of its own when there is none. Whoever stores in queues calls
`wakeup.announce_queues` after the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, LiteralString, NamedTuple

import django.db
import psycopg

from brokers.database import acquire, sqlstate, sync_cursor
from brokers.errors import QueueFull
from brokers.queues.topology import QueueInfo
from brokers.sql import load

SQL = load("storing")

_QUEUE_FULL: Final = "WS001"


class Target(NamedTuple):
    """A queue that a copy goes to; `ttl_ms` counts from the end of the delay."""

    queue: QueueInfo
    priority: int = 0
    delay_ms: int | None = None
    ttl_ms: int | None = None


class Copies(NamedTuple):
    """One message as it is stored, and where; without targets only its id is given."""

    envelope: bytes
    body: bytes
    encoding: int
    targets: Sequence[Target]


def target(queue: QueueInfo, priority: int | None, expiration_ms: int | None, delay_ms: int | None = None) -> Target:
    """Where a message of this priority and expiration goes in a queue: within its priorities, by the smaller TTL."""
    ttl = queue.message_ttl_ms
    if expiration_ms is not None and (ttl is None or expiration_ms < ttl):
        ttl = expiration_ms
    most = queue.max_priority
    return Target(queue, min(priority, most) if priority and most else 0, delay_ms or None, ttl)


def store_copies(
    routed_by: int, copies: Sequence[Copies], *, exchange: int | None = None, guarded: bool = True
) -> list[int] | None:
    """Stores messages, all or none, and answers their ids in the order given.

    None, and nothing stored, when the topology's version is not `routed_by` any more: route again. `exchange` is the
    row of the exchange that they are counted for. Raises `QueueFull` when a queue that refuses what exceeds its length
    has no room, which spoils the caller's transaction; with `guarded` false such a queue takes them all the same.
    """
    try:
        with sync_cursor() as cursor:
            row = cursor.execute(*_call(routed_by, copies, exchange, guarded), binary=True).fetchone()
    except django.db.DatabaseError as error:
        if sqlstate(error) == _QUEUE_FULL:
            raise _full(error, copies) from error
        raise
    return None if row is None else row[0]


async def astore_copies(
    routed_by: int, copies: Sequence[Copies], *, exchange: int | None = None, guarded: bool = True
) -> list[int] | None:
    """`store_copies` on the pool, a transaction of its own."""
    try:
        async with acquire() as conn:
            cursor = await conn.execute(*_call(routed_by, copies, exchange, guarded), binary=True)
            row = await cursor.fetchone()
    except psycopg.DatabaseError as error:
        if sqlstate(error) == _QUEUE_FULL:
            raise _full(error, copies) from error
        raise
    return None if row is None else row[0]


def _call(
    routed_by: int, copies: Sequence[Copies], exchange: int | None, guarded: bool
) -> tuple[LiteralString, tuple[Any, ...]]:
    """The statement and its parameters: numbers as text of arrays, which is quicker than the driver's arrays."""
    envelopes: list[bytes] = []
    bodies: list[bytes] = []
    encodings: list[int] = []
    places: list[int] = []
    queues: list[int] = []
    priorities: list[int] = []
    delays: list[int | None] = []
    ttls: list[int | None] = []
    guards: dict[int, int] = {}
    place = unrouted = 0
    for envelope, body, encoding, targets in copies:
        place += 1
        if not targets:
            unrouted += 1
            envelope = body = b""
        envelopes.append(envelope)
        bodies.append(body)
        encodings.append(encoding)
        for queue, priority, delay, ttl in targets:
            places.append(place)
            queues.append(queue.id)
            priorities.append(priority)
            delays.append(delay)
            ttls.append(ttl)
            if guarded and queue.max_length is not None and queue.overflow == "reject-publish":
                guards[queue.id] = queue.max_length
    is_one = place == 1
    return SQL.publish_one if is_one else SQL.publish, (
        routed_by,
        place,
        exchange,
        unrouted,
        _array(guards) if guards else None,
        _array(guards.values()) if guards else None,
        envelopes[0] if is_one else envelopes,
        bodies[0] if is_one else bodies,
        _array(encodings),
        _array(places),
        _array(queues) if queues else None,
        _array(priorities) if any(priorities) else None,
        _array_of_some(delays),
        _array_of_some(ttls),
    )


def _array(numbers: Iterable[int]) -> str:
    return f"{{{','.join(map(str, numbers))}}}"


def _array_of_some(numbers: Sequence[int | None]) -> str | None:
    """None when all of them are."""
    if numbers.count(None) == len(numbers):
        return None
    return f"{{{','.join('NULL' if number is None else str(number) for number in numbers)}}}"


def _full(error: BaseException, copies: Sequence[Copies]) -> QueueFull:
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    message = cause.diag.message_primary if isinstance(cause, psycopg.Error) else None
    names = {str(queue.id): queue.name for copy in copies for queue, *_ in copy.targets}
    name = names.get(message or "", "the queue")
    return QueueFull(f"{name} is full and refuses what exceeds its length; nothing was stored", queue=name)
