"""Looking at a queue's messages, page by page, without taking any: for people, and for programs that only watch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from brokers.database import sync_cursor
from brokers.errors import InvalidValue, shown
from brokers.queues.message import Message, read
from brokers.queues.topology import QueueInfo
from brokers.sql import load

SQL = load("peeking")

_Cursor = tuple[str, int, int]
_STATES: Final = ("ready", "delayed", "unacknowledged")


def peek(queue: QueueInfo, after: str | None = None, limit: int = 100) -> list[Message]:
    """A page of all messages of a queue, which changes nothing: ready ones as they would be handed out, then those
    that are delayed, then those under a claim.

    `after` is the `place_of` the last one of the page before. Raises `InvalidValue` for what is no such place.
    """
    state, first, second = _place(after)
    found: list[Message] = []
    for index in range(_STATES.index(state), len(_STATES)):
        rows = _LOOKS[index](queue, first, second, limit - len(found))
        found += [read(row, queue.name) for row in rows]
        if len(found) >= limit:
            break
        first, second = -1, 0
    return found


def place_of(message: Message) -> str:
    """Where a message stands in `peek`'s order, as text."""
    if message.lease_until is not None:
        return f"unacknowledged.{_microseconds(message.lease_until)}.{message.row}"
    if message.due_at is not None:
        return f"delayed.{_microseconds(message.due_at)}.{message.row}"
    return f"ready.{message.priority}.{message.id}"


def _place(after: str | None) -> _Cursor:
    if after is None:
        return "ready", -1, 0
    state, *numbers = after.split(".") if len(after) <= 60 else ("",)
    if state in _STATES and len(numbers) == 2 and all(part.isascii() and part.isdecimal() for part in numbers):
        first, second = map(int, numbers)
        if first < 2**58 and second < 2**63:
            return state, first, second
    raise InvalidValue(f"{shown(after)} is not where a page ended", pointer="after")


def _look_at_ready(queue: QueueInfo, priority: int, pos: int, limit: int) -> list[tuple[Any, ...]]:
    most = queue.max_priority or 0
    levels = list(range(most if priority < 0 else min(priority, most), -1, -1))
    after = [pos if level == priority else -1 for level in levels]
    with sync_cursor() as cursor:
        wanted = {"queue": queue.id, "priorities": levels, "after": after, "limit": limit}
        return cursor.execute(SQL.ready, wanted, binary=True).fetchall()


def _look_at_delayed(queue: QueueInfo, due_at: int, row: int, limit: int) -> list[tuple[Any, ...]]:
    with sync_cursor() as cursor:
        return cursor.execute(SQL.delayed, (queue.id, _instant(due_at), row, limit), binary=True).fetchall()


def _look_at_held(queue: QueueInfo, lease_until: int, row: int, limit: int) -> list[tuple[Any, ...]]:
    with sync_cursor() as cursor:
        return cursor.execute(SQL.held, (queue.id, _instant(lease_until), row, limit), binary=True).fetchall()


_LOOKS: Sequence[Callable[[QueueInfo, int, int, int], list[tuple[Any, ...]]]] = (
    _look_at_ready,
    _look_at_delayed,
    _look_at_held,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MICROSECOND: Final = 253_402_300_799_999_999


def _microseconds(moment: datetime) -> int:
    passed = moment - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=min(microseconds, _LAST_MICROSECOND))
