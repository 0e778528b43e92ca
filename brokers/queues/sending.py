"""Publishing to exchanges: the one way into queues, for Python code and for every surface.

Takes messages that are checked (`message_input`), routes them by the topology that this process remembers, and stores
them in one statement, which refuses when the topology has changed meanwhile: then they are routed anew. Permissions are
the surfaces' matter: code in this process may publish anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from asgiref.sync import sync_to_async
from django.db import transaction

from brokers import metrics, wakeup
from brokers.database import in_handler, in_transaction
from brokers.errors import ExchangeNotFound, Unavailable, Unroutable, shown
from brokers.queues import message_input, tending, topology
from brokers.queues.message import NewMessage, encode, envelope_of
from brokers.queues.routing import routing_keys
from brokers.queues.storing import Copies, Target, astore_copies, store_copies, target
from brokers.queues.topology import QueueInfo, Topology

_ROUTINGS: Final = 10
"""How often messages are routed anew while the topology keeps changing."""


class Sent(NamedTuple):
    """A stored message: its id, the same in all queues, and how many queues it reached."""

    id: int
    queues: int


class Published(NamedTuple):
    """What was sent, in the order given, and the queues that may now be longer than they should."""

    sent: list[Sent]
    crowded: tuple[QueueInfo, ...]


def send(
    exchange: str,
    routing_key: str,
    body: Any,
    *,
    headers: Mapping[str, Any] | None = None,
    priority: int | None = None,
    expiration_ms: int | None = None,
    delay_ms: int | None = None,
    message_id: str | None = None,
    correlation_id: str | None = None,
    reply_to: str | None = None,
    content_type: str | None = None,
    type: str | None = None,  # noqa: A002 - the property's name
    mandatory: bool = False,
) -> Sent:
    """Publishes one message: bytes as they are, anything else as JSON. Exchange `""` is the default one.

    The message is ready after `delay_ms` and expires `expiration_ms` later, or sooner if its queue says so. Inside a
    database transaction it is part of it: nobody sees it before the commit. Outside of one it is on disk when this
    returns. Raises `ExchangeNotFound`, `Unroutable` (when `mandatory` and no queue is reached), `QueueFull`,
    `InvalidValue`, `TooLarge`, `UnencodableValue` and `Unavailable`.
    """
    message = message_input.single(
        body,
        routing_key=routing_key,
        headers=headers,
        priority=priority,
        expiration_ms=expiration_ms,
        delay_ms=delay_ms,
        message_id=message_id,
        correlation_id=correlation_id,
        reply_to=reply_to,
        content_type=content_type,
        type=type,
    )
    return publish_messages(exchange, [message], mandatory).sent[0]


def send_many(exchange: str, messages: Iterable[Mapping[str, Any] | NewMessage], mandatory: bool = False) -> list[Sent]:
    """Publishes messages, all or none, in one statement; each a mapping with `body` and what else `send` takes.

    The answers come in the order given. Transactions and errors as for `send`.
    """
    return publish_messages(exchange, message_input.messages(messages), mandatory).sent


async def asend(
    exchange: str,
    routing_key: str,
    body: Any,
    *,
    headers: Mapping[str, Any] | None = None,
    priority: int | None = None,
    expiration_ms: int | None = None,
    delay_ms: int | None = None,
    message_id: str | None = None,
    correlation_id: str | None = None,
    reply_to: str | None = None,
    content_type: str | None = None,
    type: str | None = None,  # noqa: A002 - the property's name
    mandatory: bool = False,
) -> Sent:
    """`send` for asynchronous code, outside of a transaction: on disk when it returns.

    In an asynchronous handler of a listener it is part of the handler's transaction, as `send` is.
    """
    message = message_input.single(
        body,
        routing_key=routing_key,
        headers=headers,
        priority=priority,
        expiration_ms=expiration_ms,
        delay_ms=delay_ms,
        message_id=message_id,
        correlation_id=correlation_id,
        reply_to=reply_to,
        content_type=content_type,
        type=type,
    )
    return (await _asend_checked(exchange, [message], mandatory))[0]


async def asend_many(
    exchange: str, messages: Iterable[Mapping[str, Any] | NewMessage], mandatory: bool = False
) -> list[Sent]:
    """`send_many` for asynchronous code; transactions as for `asend`."""
    return await _asend_checked(exchange, message_input.messages(messages), mandatory)


async def _asend_checked(exchange: str, messages: list[NewMessage], mandatory: bool) -> list[Sent]:
    if in_handler.get():
        return (await sync_to_async(publish_messages)(exchange, messages, mandatory)).sent
    published = await apublish_messages(exchange, messages, mandatory)
    if published.crowded:
        await sync_to_async(_enforce_lengths)(published.crowded)
    return published.sent


def publish_messages(exchange: str, messages: Sequence[NewMessage], mandatory: bool = False) -> Published:
    """Publishes checked messages: within the caller's transaction if there is one.

    Queues that drop their oldest messages are cut to their length at the commit. Errors are those of `send`.
    """
    if not messages:
        return Published([], ())
    known = topology.current()
    try:
        routed = _route(known, exchange, messages, mandatory)
    except (ExchangeNotFound, Unroutable):  # as far as is remembered
        known = topology.fresh()
        routed = _route(known, exchange, messages, mandatory)
    for _ in range(_ROUTINGS):
        ids = store_copies(known.version, routed.copies, exchange=routed.exchange)
        if ids is not None:
            break
        known = topology.fresh()
        routed = _route(known, exchange, messages, mandatory)
    else:
        raise _restless()
    if in_transaction():
        transaction.on_commit(partial(_published, routed), robust=True)
        if routed.crowded:
            transaction.on_commit(partial(_enforce_lengths, routed.crowded), robust=True)
    else:
        _published(routed)
        _enforce_lengths(routed.crowded)
    return Published(_sent(ids, routed), routed.crowded)


async def apublish_messages(exchange: str, messages: Sequence[NewMessage], mandatory: bool = False) -> Published:
    """Publishes checked messages at once, on the pool.

    Queues among `crowded` are the caller's to cut to their length (`tending.enforce_length`). Errors are those of
    `send`.
    """
    if not messages:
        return Published([], ())
    known = await topology.acurrent()
    try:
        routed = _route(known, exchange, messages, mandatory)
    except (ExchangeNotFound, Unroutable):
        known = await topology.afresh()
        routed = _route(known, exchange, messages, mandatory)
    for _ in range(_ROUTINGS):
        ids = await astore_copies(known.version, routed.copies, exchange=routed.exchange)
        if ids is not None:
            break
        known = await topology.afresh()
        routed = _route(known, exchange, messages, mandatory)
    else:
        raise _restless()
    _published(routed)
    return Published(_sent(ids, routed), routed.crowded)


# -- routing ----------------------------------------------------------------------------------------------------


class _Routed(NamedTuple):
    """Messages ready to be stored, the row of their exchange, and the queues that they go to."""

    copies: list[Copies]
    exchange: int | None
    queues: set[int]
    crowded: tuple[QueueInfo, ...]


def _route(known: Topology, exchange: str, messages: Sequence[NewMessage], mandatory: bool) -> _Routed:
    """Raises `ExchangeNotFound` and, for a mandatory message that reaches no queue, `Unroutable`."""
    copies: list[Copies] = []
    queues: set[int] = set()
    crowded: dict[int, QueueInfo] = {}
    info = known.exchange(exchange) if isinstance(exchange, str) else None
    if info is None:
        raise ExchangeNotFound(f"there is no exchange {shown(exchange)}")
    for index, message in enumerate(messages):
        reached = known.route(exchange, routing_keys(message.routing_key, message.headers), message.headers)
        if mandatory and not reached:
            detail = f"message {index} reaches no queue by routing key {shown(message.routing_key)}"
            raise Unroutable(detail, pointer=f"/messages/{index}")
        targets: list[Target] = []
        for queue in reached:
            targets.append(target(queue, message.priority, message.expiration_ms, message.delay_ms))
            queues.add(queue.id)
            if queue.max_length is not None and queue.overflow == "drop-head":
                crowded[queue.id] = queue
        copies.append(Copies(encode(envelope_of(exchange, message)), message.body, message.encoding, targets))
    return _Routed(copies, info.id or None, queues, tuple(crowded.values()))


def _sent(ids: list[int], routed: _Routed) -> list[Sent]:
    return [Sent(number, len(copies.targets)) for number, copies in zip(ids, routed.copies, strict=True)]


def _published(routed: _Routed) -> None:
    metrics.messages_published.inc(len(routed.copies))
    if routed.queues:
        wakeup.announce_queues(routed.queues)


def _enforce_lengths(queues: Iterable[QueueInfo]) -> None:
    for queue in queues:
        tending.enforce_length(queue)


def _restless() -> Unavailable:
    return Unavailable("exchanges, bindings or queues change faster than messages are routed; try again")
