"""Moving messages from one queue to another, by an operator's wish.

A message stays the row that it is and changes its queue, so it is in one of the two at any time. There it is as newly
published: at the end, with the target's priorities and TTL, and with no deliveries counted. Called by REST, console and
commands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import django.db
from django.db import transaction

from brokers import audit, wakeup
from brokers.database import sqlstate, sync_cursor
from brokers.errors import InvalidValue, QueueFull, QueueNotFound
from brokers.queues import lengths, tending, topology
from brokers.queues.message import decode
from brokers.queues.planning import by_index
from brokers.queues.storing import target as place_in
from brokers.queues.topology import QueueInfo
from brokers.sql import load

SQL = load("moving")

MOVED_AT_ONCE: Final = 500
"""Messages moved in one transaction."""
_QUEUE_FULL: Final = "WS001"


def _always() -> bool:
    return True


def move(
    source: QueueInfo | str,
    target: QueueInfo | str,
    limit: int | None = None,
    *,
    actor: audit.Actor = audit.SYSTEM,
    reason: str = "",
    keep_going: Callable[[], bool] = _always,
) -> int:
    """Moves the ready messages that a queue holds now to another one, in their order; says how many.

    At most `limit`; the highest priority first, then the oldest. Transactions of its own, a bounded number of messages
    each; ends early once `keep_going` says no. A target that refuses what exceeds its length takes what fits. Audited.
    Raises `QueueNotFound`, `InvalidValue`, and `QueueFull` when nothing fits.
    """
    of = topology.queue(source) if isinstance(source, str) else source
    to = topology.queue(target) if isinstance(target, str) else target
    if of.id == to.id:
        raise InvalidValue(f"{of.name} cannot be moved to itself")
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.newest).fetchone()
    assert row is not None
    moved = 0
    try:
        while (limit is None or moved < limit) and keep_going():
            more = _step(of, to, row[0], MOVED_AT_ONCE if limit is None else min(limit - moved, MOVED_AT_ONCE))
            moved += more
            if not more:
                break
    except QueueFull:
        if not moved:
            raise
    finally:
        if moved:
            why = {"reason": reason} if reason else {}
            audit.record(actor, "move", "queue", of.name, {"target": to.name, "messages": moved} | why)
    if moved:
        tending.enforce_length(to)
    return moved


def _step(of: QueueInfo, to: QueueInfo, newest: int, limit: int) -> int:
    most = to.max_length if to.overflow == "reject-publish" else None
    if most is not None:
        limit = max(1, min(limit, most - lengths.figures([to.id])[to.id].ready))
    with by_index() as cursor:
        wanted = {"queue": of.id, "levels": of.max_priority or 0, "newest": newest, "limit": limit}
        rows = cursor.execute(SQL.head, wanted, binary=True).fetchall()
        places = []
        for _, priority, stored in rows:
            envelope = decode(stored)
            wished = priority if envelope.priority is None else envelope.priority
            places.append(place_in(to, wished, envelope.expiration_ms))
        columns = ([row[0] for row in rows], [place.priority for place in places], [place.ttl_ms for place in places])
        moved = _move(of, to, most, *columns) if rows else 0
        if moved:
            transaction.on_commit(partial(wakeup.announce_queues, [to.id]), robust=True)
    return moved


def _move(
    of: QueueInfo, to: QueueInfo, most: int | None, rows: list[int], priorities: list[int], ttls: list[int | None]
) -> int:
    try:
        with sync_cursor() as cursor:
            row = cursor.execute(SQL.move, (of.id, to.id, most, rows, priorities, ttls)).fetchone()
    except django.db.DatabaseError as error:
        if sqlstate(error) == _QUEUE_FULL:
            raise QueueFull(f"{to.name} is full and refuses what exceeds its length", queue=to.name) from error
        raise
    assert row is not None
    if row[0] is None:
        raise QueueNotFound(f"queue {to.name} was deleted")
    return int(row[0])
