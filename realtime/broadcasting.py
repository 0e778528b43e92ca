"""`broadcast` and `send_to_user`: what application code says to those who are subscribed now.

From web, worker and task processes alike, and part of the caller's transaction as `publish` is: what rolls back was
never said. Permissions are the surfaces' matter; frames that clients send come through `announcing` instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.db import transaction

from brokers import publishing, record_input, topics
from brokers.database import in_handler, in_transaction
from brokers.errors import InvalidValue, TooLarge, TopicNotFound, shown
from brokers.record import JSON
from brokers.settings import CACHE_SECONDS, MAX_RECORD_BYTES
from realtime import announcing, destinations
from realtime.announcing import user_destination
from realtime.destinations import Broadcast, Topic, UserOther

MAX_BROADCAST_BYTES: Final = MAX_RECORD_BYTES
"""The body of a broadcast."""
_MAX_PLAIN: Final = 10_000
_OF_FRAMES: Final = frozenset({"destination", "subscription", "message-id", "content-length", "ack", "receipt-id"})
_TYPES: Final = {JSON: "application/json"}
_BYTES: Final = "application/octet-stream"

_plain: dict[str, float] = {}
"""Names that were no topics of the log a moment ago, and until when that is believed."""
_used: set[str] = set()
"""Those among them that were asked for since `PlainNames` last looked for all of them at once."""


def broadcast(destination: str, payload: Any, *, headers: Mapping[str, str] | None = None) -> None:
    """Sends to all who are subscribed to a destination now: bytes as they are, anything else as JSON.

    `/topic/x` where x is a topic of the log gets a published record. Inside a database transaction it is sent when that
    commits, never when it rolls back. Otherwise it is handed over when this returns; while Redis is away it is lost. A
    header `content-type` says what the bytes are. Raises `InvalidValue`, `ProtocolError` for what is no destination,
    `TooLarge` beyond 1 MiB, `UnencodableValue`, and what `publish` raises.
    """
    target = _target(destination)
    if isinstance(target, Topic) and _is_log_topic(target.name):
        publishing.publish(target.name, payload, headers=headers)
        return
    _say(_destination(destination, target), payload, headers)


async def abroadcast(destination: str, payload: Any, *, headers: Mapping[str, str] | None = None) -> None:
    """`broadcast` for asynchronous code; in an asynchronous handler of a listener it is part of its transaction."""
    if in_handler.get():
        await sync_to_async(broadcast)(destination, payload, headers=headers)
        return
    target = _target(destination)
    if isinstance(target, Topic) and await ais_log_topic(target.name):
        await publishing.apublish(target.name, payload, headers=headers)
        return
    announcing.announce(_destination(destination, target), *encoded(payload, headers))


def send_to_user(user: Any, destination: str, payload: Any, *, headers: Mapping[str, str] | None = None) -> None:
    """Sends to all sessions of a user that are subscribed to `/user{destination}`, such as `/queue/replies`.

    `user` is a user name or a Django user. Nothing is stored (`notify` stores). Transactions and errors as for
    `broadcast`.
    """
    _say(_of_user(user, destination), payload, headers)


async def asend_to_user(user: Any, destination: str, payload: Any, *, headers: Mapping[str, str] | None = None) -> None:
    """`send_to_user` for asynchronous code."""
    if in_handler.get():
        await sync_to_async(send_to_user)(user, destination, payload, headers=headers)
        return
    announcing.announce(_of_user(user, destination), *encoded(payload, headers))


def encoded(payload: Any, headers: Mapping[str, str] | None) -> tuple[bytes, str, Mapping[str, str]]:
    """Body, content type and other headers of a broadcast; raises `InvalidValue`, `TooLarge`, `UnencodableValue`."""
    checked = record_input.checked_headers(headers)
    body, encoding = record_input.value_bytes(payload) if payload is not None else (b"null", JSON)
    assert body is not None
    if len(body) > MAX_BROADCAST_BYTES:
        raise TooLarge(f"the broadcast has {len(body)} bytes; {MAX_BROADCAST_BYTES} are allowed")
    content_type = _TYPES.get(encoding, _BYTES)
    others: dict[str, str] = {}
    for name, text in checked.items():
        if name in _OF_FRAMES:
            raise InvalidValue(f"the header {name} is set by the connection itself", pointer="/headers")
        if name == "content-type":
            content_type = text
        else:
            others[name] = text
    return body, content_type, others


async def ais_log_topic(name: str) -> bool:
    """Whether there is a topic of the log of that name; an answer of no is believed for `CACHE_SECONDS`."""
    if _is_believed(name):
        return False
    try:
        await topics.alookup(name)
    except TopicNotFound:
        _remember_plain(name)
        return False
    return True


def _is_log_topic(name: str) -> bool:
    if _is_believed(name):
        return False
    try:
        topics.lookup(name)
    except TopicNotFound:
        _remember_plain(name)
        return False
    return True


def forget_plain(name: str | None = None) -> None:
    """A topic of that name may have been made, or any."""
    if name is None:
        _plain.clear()
        _used.clear()
    else:
        _plain.pop(name, None)


def take_used() -> set[str]:
    """Names that were believed to be no topics since this was called last."""
    used = _used.copy()
    _used.difference_update(used)
    return used


def renew_plain(names: Iterable[str], seen_at: float) -> None:
    """Believes of names that they were no topics at that moment, unless something else was heard meanwhile."""
    for name in names:
        if name in _plain:
            _plain[name] = seen_at + CACHE_SECONDS


def _is_believed(name: str) -> bool:
    if _plain.get(name, 0.0) <= time.monotonic():
        return False
    _used.add(name)
    return True


def _remember_plain(name: str) -> None:
    if len(_plain) >= _MAX_PLAIN:
        forget_plain()
    _plain[name] = time.monotonic() + CACHE_SECONDS


def _say(destination: str, payload: Any, headers: Mapping[str, str] | None) -> None:
    body, content_type, others = encoded(payload, headers)
    announce = partial(announcing.announce, destination, body, content_type, others)
    if in_transaction():
        transaction.on_commit(announce, robust=True)
    else:
        announce()


def _target(destination: str) -> Topic | Broadcast | UserOther:
    if not isinstance(destination, str):
        raise InvalidValue(f"a destination is text, not {shown(destination)}")
    target = destinations.parse(destination)
    if isinstance(target, Topic | UserOther) or (isinstance(target, Broadcast) and not target.is_pattern):
        return target
    raise InvalidValue(f"{shown(destination)} cannot be broadcast to: it is /topic/{{name}}, without wildcards")


def _destination(destination: str, target: Topic | Broadcast | UserOther) -> str:
    if isinstance(target, UserOther):
        return _of_user(target.user, target.path)
    return target.destination


def _of_user(user: Any, destination: str) -> str:
    name = user if isinstance(user, str) else getattr(user, "get_username", lambda: None)()
    if not isinstance(name, str) or not name:
        raise InvalidValue(f"a user is a user's name, or a Django user, not {shown(user)}")
    own = destinations.parse(f"/user{destination}")
    if not isinstance(own, destinations.UserOwn) or any(wild in own.path for wild in "*?{"):
        raise InvalidValue(f"a user's destination is /queue/{{name}}, unlike {shown(destination)}")
    return user_destination(name, own.path)
