"""Publishing once, or doing something else once, under an Idempotency-Key.

The key's row, the answer and the records are one transaction, so a key is remembered exactly when its records are
stored, whatever crashes. An advisory lock tells a repeat that the first is still under way. Called by REST; the
oldest keys are forgotten by housekeeping.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable

from django.db import transaction

from brokers import metrics, topic_log, wakeup
from brokers.database import acquire, sync_cursor
from brokers.errors import IdempotencyInProgress, IdempotencyKeyReused, InvalidIdempotencyKey
from brokers.outgoing import Outgoing, plan
from brokers.settings import IDEMPOTENCY_WINDOW_MS
from brokers.sql import load
from brokers.topics import TopicInfo

SQL = load("idempotency")
_KEY = re.compile(rb"[\x20-\x7e]{1,255}")
_PURGE_ROWS = 5000
_NO_TOPIC = 0
"""In the place of a topic's id for what is no publish."""


def checked_key(header: bytes) -> str:
    """The key of a request's header: 1 to 255 printable ASCII characters."""
    if not _KEY.fullmatch(header):
        raise InvalidIdempotencyKey("Idempotency-Key must be 1 to 255 printable ASCII characters")
    return header.decode("ascii")


async def publish_once(
    principal: str,
    info: TopicInfo,
    key: str,
    body: bytes,
    outgoing: Outgoing,
    render: Callable[[Iterable[tuple[int, int]]], bytes],
) -> tuple[bytes, bool]:
    """Stores the records unless this principal did so under the key within 24 hours; answers what was answered first.

    The second value says whether it was a repeat. Raises `IdempotencyInProgress`, `IdempotencyKeyReused` and what
    publishing raises. One transaction of its own.
    """
    digest = hashlib.sha256(body).digest()
    made = plan(info, outgoing)
    lock = _lock_of(principal, info.id, key)
    async with acquire() as conn, conn.transaction():
        row = await (await conn.execute(SQL.lock, (lock,))).fetchone()
        if row is None or not row[0]:
            raise IdempotencyInProgress("the first request with this Idempotency-Key is still under way")
        found = await (await conn.execute(SQL.find, (principal, info.id, key, IDEMPOTENCY_WINDOW_MS))).fetchone()
        if found is not None:
            if bytes(found[0]) != digest:
                raise IdempotencyKeyReused("this Idempotency-Key came with another body before")
            return bytes(found[1]), True
        bases = await topic_log.aappend_on(conn, info, made.batches)
        answer = render(made.positions(bases).pairs())
        await conn.execute(SQL.remember, (principal, info.id, key, digest, answer))
    metrics.records_published.inc(made.count)
    wakeup.announce_partitions(made.partition_ids())
    return answer, False


def once(principal: str, scope: str, key: str, body: bytes, work: Callable[[], bytes]) -> tuple[bytes, bool]:
    """What the work answers, unless this principal had it done under the key within 24 hours: then what it answered.

    The second value says whether it was a repeat. `scope` names what the keys are for. Raises `IdempotencyInProgress`,
    `IdempotencyKeyReused` and what the work raises. The work is part of the one transaction that is opened here.
    """
    digest = hashlib.sha256(body).digest()
    named = f"{scope}:{hashlib.sha256(key.encode()).hexdigest()}"
    with transaction.atomic(), sync_cursor() as cursor:
        row = cursor.execute(SQL.lock, (_lock_of(principal, _NO_TOPIC, named),)).fetchone()
        if row is None or not row[0]:
            raise IdempotencyInProgress("the first request with this Idempotency-Key is still under way")
        found = cursor.execute(SQL.find, (principal, _NO_TOPIC, named, IDEMPOTENCY_WINDOW_MS)).fetchone()
        if found is not None:
            if bytes(found[0]) != digest:
                raise IdempotencyKeyReused("this Idempotency-Key came with another body before")
            return bytes(found[1]), True
        answer = work()
        cursor.execute(SQL.remember, (principal, _NO_TOPIC, named, digest, answer))
    return answer, False


def _lock_of(principal: str, topic_id: int, key: str) -> int:
    name = f"{principal}\n{topic_id}\n{key}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def purge() -> int:
    """Forgets a bounded number of keys older than 24 hours; says how many."""
    with sync_cursor() as cursor:
        cursor.execute(SQL.purge, (IDEMPOTENCY_WINDOW_MS, _PURGE_ROWS))
        return cursor.rowcount
