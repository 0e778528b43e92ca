"""What a STOMP destination names. Pure.

The forms are those of the contract, section 3; parts are %-escaped as in RabbitMQ's `rabbit_routing_parser`. Called by
sending and subscribing; whether a thing of that name exists, and who may use it, is not known here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from brokers.errors import InvalidName, InvalidValue, shown
from brokers.names import validate
from brokers.queues.routing import check_key
from realtime import patterns
from realtime.errors import ProtocolError

MAX_LENGTH: Final = 1024
"""Characters of a destination."""
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})?")
_OWN: Final = ("queue", "topic")
_FORMS: Final = (
    "/topic/{name}, /queue/{name}, /exchange/{name}/{routing_key}, /app/{route}, /user/queue/{name} and"
    " /user/{user}/queue/{name}"
)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the log if there is one of that name, else a plain broadcast."""

    name: str

    @property
    def destination(self) -> str:
        """As MESSAGE names it."""
        return f"/topic/{self.name}"


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What no topic of the log can be named: a path of several segments, or a pattern of Spring's."""

    destination: str
    is_pattern: bool
    name: str
    """What permission is asked for: the destination behind `/topic/`, unescaped."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue; one that `must_exist` is never declared."""

    name: str
    must_exist: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange and a routing key, which may be empty."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class App:
    """A route of `@message_mapping`, which begins with a slash."""

    route: str


@dataclass(frozen=True, slots=True)
class UserOwn:
    """A destination of the user's own; `path` begins with a slash."""

    path: str


@dataclass(frozen=True, slots=True)
class UserOther:
    """A destination of some user's; `path` begins with a slash."""

    user: str
    path: str


@dataclass(frozen=True, slots=True)
class TemporaryQueue:
    """A queue of the session's own, named in `reply-to` only."""

    name: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The queue that somebody waits at for an answer."""

    queue: str


Destination = Topic | Broadcast | Queue | Exchange | App | UserOwn | UserOther | TemporaryQueue | Reply


def parse(text: str) -> Destination:
    """What a destination names; raises `ProtocolError` `invalid_destination`."""
    if len(text) > MAX_LENGTH:
        raise _invalid(text, f"it has {len(text)} characters; {MAX_LENGTH} are allowed")
    if not text.isprintable():
        raise _invalid(text, "it holds control characters")
    if not text.startswith("/"):
        raise _invalid(text, f"destinations are {_FORMS}")
    kind, _, rest = text[1:].partition("/")
    if kind not in _READERS or not rest:
        raise _invalid(text, f"destinations are {_FORMS}")
    if any(not part or part in (".", "..") for part in rest.split("/")) and kind != "exchange":
        raise _invalid(text, "it has an empty part, or a dot for one")
    try:
        return _READERS[kind](text, rest)
    except (InvalidName, InvalidValue) as error:
        raise _invalid(text, error.detail) from error


def unescaped(text: str, part: str) -> str:
    """A part of the destination `text` without its %-escapes; raises `ProtocolError`."""
    if "%" not in part:
        return part

    def octet(found: re.Match[bytes]) -> bytes:
        if found[1] is None:
            raise _invalid(text, "a % must be followed by two hexadecimal digits")
        return bytes.fromhex(found[1].decode())

    try:
        plain = _ESCAPE.sub(octet, part.encode()).decode()
    except UnicodeDecodeError as error:
        raise _invalid(text, "its %-escapes are not UTF-8") from error
    if not plain.isprintable():
        raise _invalid(text, "its %-escapes hold control characters")
    return plain


def escaped(part: str) -> str:
    """A name as a part of a destination: `/`, `%` and what is not printable ASCII as %-escapes."""
    if part.isascii() and "%" not in part and "/" not in part:
        return part
    return "".join(
        chr(octet) if 32 <= octet < 127 and octet not in b"/%" else f"%{octet:02X}" for octet in part.encode()
    )


def _topic(text: str, rest: str) -> Destination:
    if patterns.is_pattern(rest):
        return Broadcast(text, True, rest)
    name = unescaped(text, rest)
    try:
        return Topic(validate("topic", name))
    except InvalidName:
        return Broadcast(text, False, name)


def _queue(text: str, rest: str) -> Destination:
    return Queue(validate("queue", unescaped(text, rest)))


def _existing_queue(text: str, rest: str) -> Destination:
    kind, _, name = rest.partition("/")
    if kind != "queue" or not name:
        raise _invalid(text, f"destinations are {_FORMS}")
    return Queue(validate("queue", unescaped(text, name)), must_exist=True)


def _exchange(text: str, rest: str) -> Destination:
    name, _, key = rest.partition("/")
    if "/" in key:
        raise _invalid(text, "a slash in a routing key is written %2F")
    return Exchange(validate("exchange", unescaped(text, name)), check_key(unescaped(text, key)))


def _app(text: str, rest: str) -> Destination:
    return App(f"/{unescaped(text, rest)}")


def _user(text: str, rest: str) -> Destination:
    first, _, path = rest.partition("/")
    if not path:
        raise _invalid(text, "a user's destinations are /user/queue/{name} and /user/{user}/queue/{name}")
    if first in _OWN:
        return UserOwn(f"/{rest}")
    if path.partition("/")[0] not in _OWN or path in _OWN:
        raise _invalid(text, "a user's destinations are /user/queue/{name} and /user/{user}/queue/{name}")
    return UserOther(unescaped(text, first), f"/{path}")


def _temporary_queue(text: str, rest: str) -> Destination:
    return TemporaryQueue(validate("queue", unescaped(text, rest)))


def _reply(text: str, rest: str) -> Destination:
    return Reply(validate("queue", unescaped(text, rest)))


_READERS: Final = {
    "topic": _topic,
    "queue": _queue,
    "amq": _existing_queue,
    "exchange": _exchange,
    "app": _app,
    "user": _user,
    "temp-queue": _temporary_queue,
    "reply-queue": _reply,
}


def _invalid(text: str, why: str) -> ProtocolError:
    return ProtocolError(f"{shown(text)} is not a valid destination: {why}", "invalid_destination")
