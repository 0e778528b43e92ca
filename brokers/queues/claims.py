"""Claims: taking messages of a queue under a lease, and settling them.

A claim is a message's row with a token that is new for each claim, and the token alone decides whether it still holds:
until the message is claimed anew or was given back, even beyond its lease. Called by listeners, REST and STOMP; a
message's way to a dead letter is `dead_lettering`'s. Functions without `a` are on Django's connection, in the caller's
transaction if there is one: claim outside of one, so that others see the claim at once. Those with `a` are statements
of their own on the pool.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

from django.db import transaction

from brokers import metrics, wakeup
from brokers.database import acquire, in_transaction, sync_cursor
from brokers.errors import InvalidValue, shown
from brokers.queues import claim_hints, consumers
from brokers.queues.message import Message, read
from brokers.queues.peeking import peek, place_of
from brokers.queues.topology import QueueInfo
from brokers.sql import load

__all__ = [
    "Claim",
    "aack",
    "ack",
    "aclaim",
    "aextend",
    "aextend_all",
    "aready",
    "arequeue",
    "claim",
    "extend",
    "locked",
    "peek",
    "place_of",
    "requeue",
]

SQL = load("claims")

_LONGEST_CLAIM: Final = 52
_ROW_DIGITS: Final = 19
_LAST_ROW: Final = 2**63 - 1


class Claim(NamedTuple):
    """What settles a claimed message: its row and the claim's token."""

    row: int
    token: UUID

    @classmethod
    def parse(cls, text: str, pointer: str = "") -> Self:
        """The claim that a consumer brings back; raises `InvalidValue` for what never was one."""
        row, _, token = text.partition(".") if isinstance(text, str) and len(text) <= _LONGEST_CLAIM else ("", "", "")
        if row.isascii() and row.isdecimal() and len(row) <= _ROW_DIGITS and len(token) == 32:
            try:
                found = cls(int(row), UUID(hex=token))
            except ValueError:
                found = None
            if found is not None and found.row <= _LAST_ROW:
                return found
        raise InvalidValue(f"{shown(text)} is no claim", pointer=pointer)

    @classmethod
    def of(cls, message: Message) -> Self:
        """A claimed message's."""
        assert message.token is not None
        return cls(message.row, message.token)

    def __str__(self) -> str:
        return f"{self.row}.{self.token.hex}"


# -- taking -----------------------------------------------------------------------------------------------------


def claim(queue: QueueInfo, limit: int, lease_ms: int, holder: str, consumer: str | None = None) -> list[Message]:
    """Up to `limit` ready messages, the highest priority and the oldest first, for as long as the lease lasts.

    None while the queue is paused, and none of a queue with a single active consumer unless `consumer` (by default the
    holder) is the active one: see `consumers`. What has expired is never handed out. Order is by age but for what
    became ready again, which may wait a second or more (see `claim_hints`). Outside of a transaction the claim may be
    lost if PostgreSQL crashes at once: then it does not hold, and the message comes again. Raises `Unavailable`.
    """
    if queue.expires_ms is not None:
        consumers.used(queue)
    taking = _Taking(queue, limit, lease_ms, holder, consumer)
    while taking.goes_on():
        with sync_cursor() as cursor:
            rows = cursor.execute(SQL.claim, taking.parameters(not in_transaction()), binary=True).fetchall()
        taking.took(rows)
    return taking.messages()


async def aclaim(
    queue: QueueInfo, limit: int, lease_ms: int, holder: str, consumer: str | None = None
) -> list[Message]:
    """`claim` on the pool."""
    if queue.expires_ms is not None:
        await consumers.aused(queue)
    taking = _Taking(queue, limit, lease_ms, holder, consumer)
    while taking.goes_on():
        async with acquire() as conn:
            rows = await (await conn.execute(SQL.claim, taking.parameters(is_relaxed=True), binary=True)).fetchall()
        taking.took(rows)
    return taking.messages()


async def aready(queue_ids: Collection[int]) -> set[int]:
    """Those of the queues that have ready messages, expired ones among them. Runs on the pool."""
    async with acquire() as conn:
        return {row[0] for row in await (await conn.execute(SQL.ready, (list(queue_ids),))).fetchall()}


class _Taking:
    """One call of `claim`: one statement, and another one from the head on if that came back short."""

    def __init__(self, queue: QueueInfo, limit: int, lease_ms: int, holder: str, consumer: str | None) -> None:
        self._queue = queue
        self._hints = claim_hints.of(queue.id)
        self._priorities, self._levels = _levels(queue.max_priority or 0)
        self._wanted = 0 if queue.paused else limit
        self._rows: list[tuple[Any, ...]] = []
        self._is_full = False
        """The statement under way looks from the head on."""
        self._is_over = False
        self._began_at = 0.0
        self._lease_ms = lease_ms
        self._holder = holder
        self._consumer = (consumer or holder) if queue.single_active_consumer else None

    def goes_on(self) -> bool:
        """Whether another statement is to be made."""
        return not self._is_over and len(self._rows) < self._wanted

    def parameters(self, is_relaxed: bool) -> tuple[Any, ...]:
        """Of the next statement; a relaxed one is a transaction of its own."""
        hints = None if self._rows or self._is_full else self._hints.start(self._priorities)
        self._is_full = hints is None
        self._began_at = time.monotonic()
        return (
            self._queue.id,
            self._levels,
            _array(hints or [0] * len(self._priorities)),
            self._wanted - len(self._rows),
            self._lease_ms,
            self._holder,
            self._consumer,
            is_relaxed,
        )

    def took(self, rows: list[tuple[Any, ...]]) -> None:
        """What the statement has answered."""
        is_short = len(self._rows) + len(rows) < self._wanted
        self._hints.learn(
            self._priorities,
            ((row[3], row[2]) for row in rows),
            was_full=self._is_full,
            is_short=is_short,
            took=time.monotonic() - self._began_at,
        )
        self._rows += rows
        if self._is_full or not is_short or not self._hints.may_look_again():
            self._is_over = True
        else:
            self._is_full = True

    def messages(self) -> list[Message]:
        """All that was taken, in order."""
        if self._rows:
            metrics.messages_claimed.inc(len(self._rows))
        self._rows.sort(key=_order)
        name = self._queue.name
        return [read(row, name) for row in self._rows]


@lru_cache(maxsize=256)
def _levels(most: int) -> tuple[list[int], str]:
    """The priorities of a queue, highest first, and the same as the text of an array."""
    levels = list(range(most, -1, -1))
    return levels, _array(levels)


def _array(values: Iterable[int | str]) -> str:
    """The text of an array, which is made and read quicker than the driver's arrays."""
    return f"{{{','.join(map(str, values))}}}"


def _order(row: tuple[Any, ...]) -> tuple[int, int]:
    return -row[3], row[2]


# -- settling ---------------------------------------------------------------------------------------------------


def ack(queue: QueueInfo, claims: Collection[Claim]) -> set[Claim]:
    """Removes handled messages; answers the claims that held. The others were taken by another or given back.

    What a replay gave back has then succeeded. Outside of a transaction it is on disk when this returns.
    """
    if not claims:
        return set()
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.ack, (queue.id, *_columns(claims)), binary=True).fetchone()
    return _acknowledged(claims, row)


async def aack(queue: QueueInfo, claims: Collection[Claim]) -> set[Claim]:
    """`ack` on the pool."""
    if not claims:
        return set()
    async with acquire() as conn:
        row = await (await conn.execute(SQL.ack, (queue.id, *_columns(claims)), binary=True)).fetchone()
    return _acknowledged(claims, row)


def _acknowledged(claims: Collection[Claim], row: tuple[Any, ...] | None) -> set[Claim]:
    assert row is not None
    places = row[0]
    metrics.messages_acknowledged.inc(len(places))
    if len(places) == len(claims):
        return set(claims)
    given = list(claims)
    return {given[place - 1] for place in places}


def requeue(queue: QueueInfo, claims: Collection[Claim], delay_ms: int = 0, counts: bool = False) -> set[Claim]:
    """Gives messages back to the queue, to their old place, after a delay in ms; answers the claims that held.

    Unless it `counts`, this delivery does not count towards the queue's delivery limit. Whether a message is beyond the
    limit is for the caller to see before (`dead_lettering`), and for tending.
    """
    if not claims:
        return set()
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.requeue, _requeue_parameters(queue, claims, delay_ms, counts)).fetchall()
    if in_transaction():
        transaction.on_commit(partial(_became_ready, queue.id, rows), robust=True)
    else:
        _became_ready(queue.id, rows)
    return {Claim(row, token) for row, token, _, _ in rows}


async def arequeue(queue: QueueInfo, claims: Collection[Claim], delay_ms: int = 0, counts: bool = False) -> set[Claim]:
    """`requeue` on the pool."""
    if not claims:
        return set()
    async with acquire() as conn:
        cursor = await conn.execute(SQL.requeue, _requeue_parameters(queue, claims, delay_ms, counts))
        rows = await cursor.fetchall()
    _became_ready(queue.id, rows)
    return {Claim(row, token) for row, token, _, _ in rows}


def _requeue_parameters(queue: QueueInfo, claims: Collection[Claim], delay_ms: int, counts: bool) -> dict[str, Any]:
    rows, tokens = _columns(claims)
    return {"queue": queue.id, "rows": rows, "tokens": tokens, "delay": delay_ms, "returns": 0 if counts else 1}


def _became_ready(queue_id: int, rows: Sequence[tuple[Any, ...]]) -> None:
    claim_hints.lower(queue_id, ((priority, pos) for _, _, priority, pos in rows))
    wakeup.announce_queues([queue_id])


def extend(queue: QueueInfo, claims: Collection[Claim], lease_ms: int) -> set[Claim]:
    """Lets claims last `lease_ms` from now on; answers those that still held.

    One whose lease has lapsed still holds as long as the queue has not taken the message back.
    """
    if not claims:
        return set()
    rows, tokens = _columns(claims)
    with sync_cursor() as cursor:
        wanted = {"queue": queue.id, "rows": rows, "tokens": tokens, "lease": lease_ms}
        found = cursor.execute(SQL.extend, wanted).fetchall()
    return {Claim(*row) for row in found}


async def aextend(queue: QueueInfo, claims: Collection[Claim], lease_ms: int) -> set[Claim]:
    """`extend` on the pool."""
    if not claims:
        return set()
    rows, tokens = _columns(claims)
    async with acquire() as conn:
        wanted = {"queue": queue.id, "rows": rows, "tokens": tokens, "lease": lease_ms}
        found = await (await conn.execute(SQL.extend, wanted)).fetchall()
    return {Claim(*row) for row in found}


async def aextend_all(claims: Collection[Claim], lease_ms: int) -> None:
    """Lets claims of any queues last `lease_ms` from now on, in one statement; what is being settled is left alone."""
    if claims:
        async with acquire() as conn:
            await conn.execute(SQL.extend_all, (*_columns(claims), lease_ms))


def locked(queue: QueueInfo, claims: Collection[Claim]) -> list[Message]:
    """The messages whose claims hold, by ascending row, locked until the end of the caller's transaction."""
    if not claims:
        return []
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.locked, (*_columns(claims), queue.id), binary=True).fetchall()
    return [read(row, queue.name) for row in rows]


def _columns(claims: Iterable[Claim]) -> tuple[str, str]:
    """Rows and tokens, each as the text of an array."""
    rows, tokens = zip(*claims, strict=True)
    return _array(rows), _array([token.hex for token in tokens])
