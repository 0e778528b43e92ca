"""What queues do by themselves: delayed messages become ready, lapsed leases end, messages expire, lengths are kept.

A look asks each queue by its indexes whether there is anything to do, and never scans messages; then each queue that
has something gets one bounded step after another in turn, each a transaction of its own, so that none waits for the
backlog of another. Whatever is left waits for the next look. Called by housekeeping several times a second; parts of
it by whoever publishes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import django.db
from django.db import transaction

from brokers import audit, wakeup
from brokers.database import sync_cursor
from brokers.errors import BrokerError, QueueNotFound, Unavailable
from brokers.queues import claim_hints, consumers, deaths, declaring, topology
from brokers.queues.dead_lettering import AT_ONCE, dead_letter
from brokers.queues.looks import Looks
from brokers.queues.message import Message, read
from brokers.queues.planning import by_index
from brokers.queues.topology import QueueInfo, Topology
from brokers.sql import load

SQL = load("tending")
log = logging.getLogger("waystation.queues")

MADE_READY_AT_ONCE: Final = 1000
"""Messages made ready in one transaction."""
BYTES_AT_ONCE: Final = 8 * 1024 * 1024
"""Bodies dead-lettered in one transaction, about."""
STEPS: Final = 200
"""Transactions of one call at most."""
REMOVED_AT_ONCE: Final = 2000
"""Messages of a deleted queue removed in one transaction."""
_LENGTH_STEPS: Final = 1000
_CHECKED_AT_ONCE: Final = 500
_GONE_AT_ONCE: Final = 100
_LATE: Final = timedelta(seconds=5)
"""How much earlier than the last look a time may lie that becomes visible only now."""
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LENGTH_LOCKS: Final = 0x5753514C
"""First half of the advisory locks' keys; the second is the queue."""
_WHOLE_SECONDS: Final = 2.0
"""How often a look begins at the very beginning, unless that takes long."""
_SHARE: Final = 0.2
"""Looks take this much of the time at most."""
_KINDS: Final = ("due", "lapsed", "expired")

KeepGoing = Callable[[], bool]
Step = Callable[[], bool]
"""Does a bounded part of some work; says whether there is more."""


def _always() -> bool:
    return True


# -- one queue --------------------------------------------------------------------------------------------------


def promote(queue_id: int, since: datetime = _BEGINNING) -> int:
    """Makes delayed messages of a queue ready that are due, a bounded number; says how many."""
    with by_index() as cursor:
        promoted = cursor.execute(SQL.promote, (queue_id, since, MADE_READY_AT_ONCE)).rowcount
    if promoted:
        _became_ready(queue_id)
    return promoted


def return_lapsed(queue: QueueInfo, since: datetime = _BEGINNING) -> int:
    """Ends leases that have run out, a bounded number; says how many messages that concerns.

    They are ready again, in their old place, and their claims hold until another claim takes them. Those that have
    failed more often than the queue's delivery limit are dead-lettered.
    """
    wanted = {"queue": queue.id, "since": since, "most": queue.delivery_limit, "limit": MADE_READY_AT_ONCE}
    with by_index() as cursor:
        returned = cursor.execute(SQL.return_lapsed, wanted).rowcount
    if returned:
        _became_ready(queue.id)
    if queue.delivery_limit < 0:
        return returned
    return returned + _bury(queue, SQL.failed_too_often, {**wanted, "limit": AT_ONCE}, deaths.DELIVERY_LIMIT)


def expire(queue: QueueInfo, since: datetime = _BEGINNING) -> int:
    """Dead-letters messages that have expired, a bounded number; says how many.

    Under a claim none expires; one that was requeued with a delay may before it is due.
    """
    return _bury(queue, SQL.expired, {"queue": queue.id, "since": since, "limit": AT_ONCE}, deaths.EXPIRED)


def enforce_length(queue: QueueInfo, keep_going: KeepGoing = _always) -> int:
    """Dead-letters the first messages of a queue that is longer than it should be, until it fits; says how many.

    Only of one that drops its head. Ready messages count. Transactions of its own, a bounded number of messages each.
    """
    total = 0
    for _ in range(_LENGTH_STEPS):
        dropped = _drop_head(queue)
        total += dropped
        if not dropped or not keep_going():
            break
    return total


def _drop_head(queue: QueueInfo) -> int:
    if queue.max_length is None or queue.overflow != "drop-head":
        return 0
    with transaction.atomic():
        with sync_cursor() as cursor:
            cursor.execute(SQL.one_at_a_time, (_LENGTH_LOCKS, queue.id))
            row = cursor.execute(SQL.too_many, (queue.id, queue.max_length)).fetchone()
        assert row is not None
        if row[0] <= 0:
            return 0
        wanted = {"queue": queue.id, "levels": queue.max_priority or 0, "limit": min(row[0], AT_ONCE)}
        return _bury(queue, SQL.head, wanted, deaths.MAXLEN)


def _bury(queue: QueueInfo, statement: Any, parameters: Mapping[str, Any], reason: str) -> int:
    with by_index() as cursor:
        rows = cursor.execute(statement, {**parameters, "bytes": BYTES_AT_ONCE}, binary=True).fetchall()
        messages: list[Message] = sorted((read(row, queue.name) for row in rows), key=lambda message: message.id)
        dead_letter(queue, messages, reason)
    return len(messages)


def _became_ready(queue_id: int) -> None:
    claim_hints.reset(queue_id)
    transaction.on_commit(partial(wakeup.announce_queues, [queue_id]), robust=True)


# -- all queues -------------------------------------------------------------------------------------------------

_looks = {kind: Looks(beginning=_BEGINNING, seconds=_WHOLE_SECONDS) for kind in _KINDS}
_turns: dict[str, int] = {"length": 0, "work": 0}
"""With which queue it goes on."""
_not_before: dict[str, float] = {"look": 0.0, "length": 0.0}
"""With thousands of queues looking takes a while, and then it happens less often."""


def forget() -> None:
    """Lets the next look happen at once and begin at the very beginning."""
    for kind in _KINDS:
        _looks[kind] = Looks(beginning=_BEGINNING, seconds=_WHOLE_SECONDS)
    _not_before.update(look=0.0, length=0.0)


def tend(keep_going: KeepGoing = _always) -> int:
    """Does for all queues what is due, a bounded number of steps; says how many steps it took.

    Transactions of its own. Ends early once `keep_going` says no.
    """
    known = topology.current()
    done = 0
    if time.monotonic() >= _not_before["look"]:
        done += _do_what_is_due(known, keep_going)
    if time.monotonic() >= _not_before["length"]:
        done += _in_turn([("length", partial(_cut, queue)) for queue in _too_long(known)], keep_going)
    for queue_id in consumers.queues_with_lapsed():
        queue = known.queue_by_id(queue_id)
        if queue is not None and keep_going():
            done += consumers.remove_lapsed(queue)
    return done


def _do_what_is_due(known: Topology, keep_going: KeepGoing) -> int:
    since = {kind: looks.begin() for kind, looks in _looks.items()}
    began = time.monotonic()
    with by_index() as cursor:
        row = cursor.execute(SQL.clock).fetchone()
        assert row is not None
        now: datetime = row[0]
        found = cursor.execute(SQL.with_work, {**since, "now": now}).fetchall()
    took = time.monotonic() - began
    _not_before["look"] = began + took / _SHARE
    if any(known.queue_by_id(row[0]) is None for row in found):
        known = topology.fresh()
    work: list[tuple[str, Step]] = []
    for queue_id, *has in found:
        queue = known.queue_by_id(queue_id)
        if queue is not None:
            work.extend((kind, _step(kind, queue, since[kind])) for kind, due in zip(_KINDS, has, strict=True) if due)
    done = _in_turn(work, keep_going)
    left = {kind for kind, _ in work}
    for kind, looks in _looks.items():
        looks.end(None if kind in left else now - _LATE, took)
    return done


def _step(kind: str, queue: QueueInfo, since: datetime) -> Step:
    if kind == "due":
        return lambda: promote(queue.id, since) == MADE_READY_AT_ONCE
    if kind == "lapsed":
        return lambda: return_lapsed(queue, since) > 0
    return lambda: expire(queue, since) > 0


def _cut(queue: QueueInfo) -> bool:
    return _drop_head(queue) > 0


def _in_turn(work: list[tuple[str, Step]], keep_going: KeepGoing) -> int:
    """One step of each, as long as there is more; what is left stays in `work`. Says how many steps it took.

    It begins with another one each time, so that none is always the last.
    """
    if work:
        first = _turns["work"] % len(work)
        work[:] = work[first:] + work[:first]
        _turns["work"] += 1
    failed: list[tuple[str, Step]] = []
    taken = 0
    while work and taken < STEPS and keep_going():
        taken += 1
        kind, step = work.pop(0)
        try:
            more = step()
        except (BrokerError, django.db.DatabaseError) as error:
            if isinstance(error, Unavailable):
                raise
            log.warning("tending a queue failed", extra={"work": kind, "error": str(error)})
            failed.append((kind, step))
            continue
        if more:
            work.append((kind, step))
    work.extend(failed)
    return taken


def _too_long(known: Topology) -> Iterable[QueueInfo]:
    """Queues that have more than their length, of the next few in turn: a publisher may have died before it cut one."""
    limited = [each for each in known.queues.values() if each.max_length is not None and each.overflow == "drop-head"]
    if not limited:
        return []
    first = _turns["length"] % len(limited)
    chosen = (limited[first:] + limited[:first])[:_CHECKED_AT_ONCE]
    _turns["length"] = first + len(chosen)
    began = time.monotonic()
    with sync_cursor() as cursor:
        wanted = ([each.id for each in chosen], [each.max_length for each in chosen])
        found = {row[0] for row in cursor.execute(SQL.too_long, wanted).fetchall()}
    _not_before["length"] = began + (time.monotonic() - began) / _SHARE
    return [each for each in chosen if each.id in found]


# -- queues that end --------------------------------------------------------------------------------------------


def delete_unused(keep_going: KeepGoing = _always) -> int:
    """Deletes queues that nobody has used for as long as they may be unused; says how many.

    Their messages are not dead-lettered. A live consumer, and a message under a claim, are use.
    """
    expiring = [each for each in topology.current().queues.values() if each.expires_ms is not None]
    if not expiring:
        return 0
    wanted = ([each.id for each in expiring], [each.expires_ms for each in expiring])
    with sync_cursor() as cursor:
        unused = {row[0] for row in cursor.execute(SQL.unused, wanted).fetchall()}
    return sum(_delete(each) for each in expiring if each.id in unused and keep_going())


def _delete(queue: QueueInfo) -> bool:
    """Looks again behind the lock of the queue's row: it may be used meanwhile."""
    try:
        with transaction.atomic():
            topology.changed()
            with sync_cursor() as cursor:
                cursor.execute(SQL.lock_queue, (queue.id,))
                still = cursor.execute(SQL.unused, ([queue.id], [queue.expires_ms])).fetchone()
            if still is None:
                return False
            declaring.delete_queue(queue.name, actor=audit.SYSTEM)
    except QueueNotFound:
        return False
    return True


def remove_deleted(keep_going: KeepGoing = _always) -> int:
    """Removes the messages of deleted queues, a bounded number; says how many went. Replays hear that they are gone."""
    total, steps = 0, STEPS
    with sync_cursor() as cursor:
        gone = [row[0] for row in cursor.execute(SQL.gone, (_GONE_AT_ONCE,)).fetchall()]
    for queue_id in gone:
        while steps > 0 and keep_going():
            steps -= 1
            with by_index() as cursor:
                row = cursor.execute(SQL.remove_gone, {"queue": queue_id, "limit": REMOVED_AT_ONCE}).fetchone()
                removed = row[0] if row else 0
                if removed < REMOVED_AT_ONCE:
                    cursor.execute(SQL.forget_gone, {"queue": queue_id})
            total += removed
            if removed < REMOVED_AT_ONCE:
                break
    return total
