"""`notify`: tells a user something that is kept until it was seen, on all of their streams.

A notification has the next number of its user, taken under a lock that is held until the commit; so numbers become
visible in their order, without a gap, and a stream that resumes after a number misses nothing. Called by applications,
and by `sse.notification_stream` to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from asgiref.sync import sync_to_async
from django.db import transaction

from brokers import record_input, wakeup
from brokers.database import acquire, in_handler, in_transaction, sync_cursor
from brokers.errors import InvalidType, InvalidValue, TooLarge, shown
from realtime.sql import load

SQL = load("notifications")

KEPT: Final = 1000
"""Notifications of one user; the oldest go first."""
MAX_PAYLOAD_BYTES: Final = 64 * 1024
"""The JSON text of one."""
MAX_KIND: Final = 64
MAX_USER_NAME: Final = 150


@dataclass(frozen=True, slots=True)
class Stored:
    """A notification as a stream reads it; the payload is JSON text."""

    number: int
    kind: str
    payload: str
    created_at: datetime


class Bounds(NamedTuple):
    """A user's inbox, the number of its last notification, and that of the first that is kept."""

    inbox: int
    last: int
    first: int


def notify(user: Any, payload: Any, *, kind: str = "message") -> int:
    """Stores a notification for a user and tells their streams; answers its number, which grows by one.

    `user` is a user name or a Django user; the payload anything that has a JSON form. Inside a database transaction
    it is part of it, and others who notify the same user wait until that ends: notify late in a long transaction, and
    several users in a fixed order. Of each user the newest 1,000 are kept. Raises `InvalidValue`, `UnencodableValue`,
    `TooLarge` beyond 64 KiB, and `Unavailable`.
    """
    parameters = _checked(user, payload, kind)
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.store, parameters).fetchone()
    assert row is not None
    if in_transaction():
        transaction.on_commit(partial(_stored, row[0]), robust=True)
    else:
        _stored(row[0])
    return int(row[1])


async def anotify(user: Any, payload: Any, *, kind: str = "message") -> int:
    """`notify` for asynchronous code, outside of a transaction: stored when it returns.

    In an asynchronous handler of a listener it is part of the handler's transaction, as `notify` is.
    """
    if in_handler.get():
        return await sync_to_async(notify)(user, payload, kind=kind)
    parameters = _checked(user, payload, kind)
    async with acquire() as conn:
        row = await (await conn.execute(SQL.store, parameters)).fetchone()
    assert row is not None
    _stored(row[0])
    return int(row[1])


def _stored(inbox: int) -> None:
    wakeup.announce_streams([hint(inbox)])


def hint(inbox: int) -> str:
    """What is announced when an inbox has something new."""
    return f"n{inbox}"


def user_name(user: Any) -> str:
    """The name of a user that is given by name or as Django's; raises `InvalidValue`."""
    name = user.get_username() if hasattr(user, "get_username") else user
    if not isinstance(name, str):
        raise InvalidType(f"a user is a name or a Django user, not {shown(user)}", pointer="/user")
    if not 1 <= len(name) <= MAX_USER_NAME or "\0" in name:
        raise InvalidValue(f"{shown(name)} is no user name", pointer="/user")
    return name


def _checked(user: Any, payload: Any, kind: str) -> dict[str, Any]:
    if not isinstance(kind, str) or not 1 <= len(kind) <= MAX_KIND or "\0" in kind:
        raise InvalidValue(f"a kind is 1 to {MAX_KIND} characters, not {shown(kind)}", pointer="/kind")
    text = record_input.encode_json(payload)
    if len(text) > MAX_PAYLOAD_BYTES:
        raise TooLarge(f"the payload has {len(text)} bytes of JSON; {MAX_PAYLOAD_BYTES} are allowed")
    return {"user": user_name(user), "kind": kind, "payload": text.decode(), "kept": KEPT}


# -- reading, for streams -----------------------------------------------------------------------------------------


async def open_inbox(name: str) -> Bounds:
    """The inbox of a user, which is made when there is none yet; raises `Unavailable`."""
    while True:  # a row that another made meanwhile is seen by the next look
        async with acquire() as conn:
            row = await (await conn.execute(SQL.open_inbox, {"user": name})).fetchone()
        if row is not None:
            return Bounds(*row)


async def after(inbox: int, number: int, limit: int) -> list[Stored]:
    """Notifications with higher numbers, oldest first; the first may not be the next where older ones were dropped."""
    async with acquire() as conn:
        found = await conn.execute(SQL.after, {"inbox": inbox, "number": number, "limit": limit})
        return [Stored(*row) for row in await found.fetchall()]


async def numbers(inboxes: list[int]) -> dict[str, int]:
    """The last number of each inbox, by its hint."""
    async with acquire() as conn:
        rows = await (await conn.execute(SQL.numbers, (inboxes,))).fetchall()
    return {hint(inbox): number for inbox, number in rows}
