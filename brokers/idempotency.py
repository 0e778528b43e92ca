"""Publishing once under an Idempotency-Key.

The key's row, the answer and the records are one transaction, so a key is remembered exactly when its records are
stored, whatever crashes. An advisory lock tells a repeat that the first is still under way. Called by REST; the
oldest keys are forgotten by housekeeping.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable

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
    name = f"{principal}\n{info.id}\n{key}"
    lock = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
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


def purge() -> int:
    """Forgets a bounded number of keys older than 24 hours; says how many."""
    with sync_cursor() as cursor:
        cursor.execute(SQL.purge, (IDEMPOTENCY_WINDOW_MS, _PURGE_ROWS))
        return cursor.rowcount
