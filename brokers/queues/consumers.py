"""Who consumes a queue: rows that lapse unless they are renewed, and the one consumer of a single-active queue.

The active one is the consumer that was registered first of those that are there. It stops being active by the
transaction that takes its row away, when it leaves or was not heard of in time, and the same transaction gives its
messages back: so no other claims anything before that. Called by listeners, REST, claims and tending; functions with
`a` run on the pool. Opens transactions of its own.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

import django.db
import psycopg

from brokers import wakeup
from brokers.database import acquire, sqlstate, sync_cursor
from brokers.errors import QueueNotFound
from brokers.queues.planning import BY_INDEX
from brokers.queues.topology import QueueInfo
from brokers.sql import load
from brokers.steps import Rows, Steps, aatomically, arun, atomically, run

SQL = load("consumers")

LAPSE_MS: Final = 30_000
"""How long a consumer is there after it was last heard of, unless it says otherwise."""
_GIVEN_BACK_AT_ONCE: Final = 1000
_GIVING_STEPS: Final = 100
_LAPSED_AT_ONCE: Final = 100
_LONGEST_UNTOUCHED_SECONDS: Final = 60.0
_REMEMBERED: Final = 10_000
_FOREIGN_KEY: Final = "23503"


def register(queue: QueueInfo, name: str, kind: str, *, prefetch: int = 0, lapse_ms: int = LAPSE_MS) -> bool:
    """Registers a consumer, or renews it, until `lapse_ms` from now; says whether it may claim.

    It may not while a queue with a single active consumer has another one. `kind` is `listener`, `rest` or `stomp`.
    Raises `QueueNotFound` when the queue was deleted.
    """
    with _missing_queue(queue):
        return atomically(_register(queue, name, kind, prefetch, lapse_ms))


async def aregister(queue: QueueInfo, name: str, kind: str, *, prefetch: int = 0, lapse_ms: int = LAPSE_MS) -> bool:
    """`register` on the pool."""
    with _missing_queue(queue):
        return await aatomically(_register(queue, name, kind, prefetch, lapse_ms))


def beat(queue: QueueInfo, name: str, *, lapse_ms: int = LAPSE_MS) -> bool:
    """Renews a consumer; False when it is there no more and has to register again."""
    with sync_cursor() as cursor:
        return cursor.execute(SQL.renew, (lapse_ms, queue.id, name)).rowcount == 1


async def abeat(queue: QueueInfo, name: str, *, lapse_ms: int = LAPSE_MS) -> bool:
    """`beat` on the pool."""
    async with acquire() as conn:
        return (await conn.execute(SQL.renew, (lapse_ms, queue.id, name))).rowcount == 1


async def abeat_all(names: Collection[tuple[int, str]], *, lapse_ms: int = LAPSE_MS) -> set[tuple[int, str]]:
    """Renews consumers, each by its queue's id and its name, in one statement; answers those that are still there."""
    if not names:
        return set()
    queues, consumers = map(list, zip(*names, strict=True))
    async with acquire() as conn:
        rows = await (await conn.execute(SQL.renew_all, (lapse_ms, queues, consumers))).fetchall()
    return {(queue_id, name) for queue_id, name in rows}


async def akeep_active(queue: QueueInfo, lapse_ms: int) -> None:
    """Lets the one active consumer, which alone can hold messages, last as long as a lease of its that was extended."""
    if queue.single_active_consumer:
        async with acquire() as conn:
            await conn.execute(SQL.renew_first, (lapse_ms, queue.id))


def leave(queue: QueueInfo, name: str) -> None:
    """Takes a consumer away that goes of itself.

    If it was the only active one, what it holds goes back to the queue, without counting towards the delivery limit.
    """
    atomically(_leave(queue, name))
    wakeup.announce_queues([queue.id])


async def aleave(queue: QueueInfo, name: str) -> None:
    """`leave` on the pool."""
    await aatomically(_leave(queue, name))
    wakeup.announce_queues([queue.id])


def active(queue: QueueInfo) -> str | None:
    """The consumer that a queue with a single active consumer hands messages to."""
    rows = run(_first(queue.id))
    return rows[0][1] if rows else None


async def aactive(queue: QueueInfo) -> str | None:
    """`active` on the pool."""
    rows = await arun(_first(queue.id))
    return rows[0][1] if rows else None


def queues_with_lapsed() -> list[int]:
    """Queues with consumers that were not heard of in time, a bounded number."""
    with sync_cursor() as cursor:
        return [row[0] for row in cursor.execute(SQL.lapsed, (_LAPSED_AT_ONCE,)).fetchall()]


def remove_lapsed(queue: QueueInfo) -> int:
    """Takes the consumers of a queue away that were not heard of in time; says how many.

    What a single active one held goes back to the queue, and counts as failed.
    """
    removed = atomically(_remove_lapsed(queue))
    if removed:
        wakeup.announce_queues([queue.id])
    return removed


@contextmanager
def _missing_queue(queue: QueueInfo) -> Iterator[None]:
    try:
        yield
    except (django.db.IntegrityError, psycopg.IntegrityError) as error:
        if sqlstate(error) != _FOREIGN_KEY:
            raise
        raise QueueNotFound(f"queue {queue.name} was deleted") from error


# -- the rules --------------------------------------------------------------------------------------------------


def _register(queue: QueueInfo, name: str, kind: str, prefetch: int, lapse_ms: int) -> Steps[bool]:
    if queue.single_active_consumer:
        yield from _remove_lapsed(queue)
    wanted = {"queue": queue.id, "name": name, "kind": kind, "prefetch": prefetch, "lapse": lapse_ms}
    rows = yield SQL.put, wanted
    return not queue.single_active_consumer or bool(rows[0][0])


def _leave(queue: QueueInfo, name: str) -> Steps[None]:
    removed = yield SQL.remove, (queue.id, name)
    yield from _hand_over(queue, removed, returns=1)


def _remove_lapsed(queue: QueueInfo) -> Steps[int]:
    removed = yield SQL.remove_lapsed, (queue.id,)
    yield from _hand_over(queue, removed, returns=0)
    return len(removed)


def _hand_over(queue: QueueInfo, removed: Rows, returns: int) -> Steps[None]:
    """Nobody else can have claimed anything yet, so all that is held was held by the one that is gone."""
    if not removed:
        return
    yield SQL.used, (queue.id,)
    if not queue.single_active_consumer:
        return
    following = yield from _first(queue.id)
    if following and following[0][0] < min(row[0] for row in removed):
        return
    yield BY_INDEX, ()
    wanted = {"queue": queue.id, "returns": returns, "most": queue.delivery_limit, "limit": _GIVEN_BACK_AT_ONCE}
    for _ in range(_GIVING_STEPS):
        rows = yield SQL.give_back, wanted
        if len(rows) < _GIVEN_BACK_AT_ONCE:
            break


def _first(queue_id: int) -> Steps[Rows]:
    rows = yield SQL.first, (queue_id,)
    return rows


# -- use of queues that expire ----------------------------------------------------------------------------------

_kept: dict[int, float] = {}
"""When this process has last kept that a queue was used."""


def _due(queue: QueueInfo) -> bool:
    if queue.expires_ms is None:
        return False
    now = time.monotonic()
    if now - _kept.get(queue.id, -_LONGEST_UNTOUCHED_SECONDS) < min(
        queue.expires_ms / 4000, _LONGEST_UNTOUCHED_SECONDS
    ):
        return False
    if len(_kept) >= _REMEMBERED:
        _kept.clear()
    _kept[queue.id] = now
    return True


def used(queue: QueueInfo) -> None:
    """Keeps that a queue was used, if it expires without; seldom enough to cost nothing."""
    if _due(queue):
        with sync_cursor() as cursor:
            cursor.execute(SQL.used, (queue.id,))


async def aused(queue: QueueInfo) -> None:
    """`used` on the pool."""
    if _due(queue):
        async with acquire() as conn:
            await conn.execute(SQL.used, (queue.id,))
