"""Dead letters as messages: given back to the queue that they died in, or published anew to a queue or an exchange.

What goes back keeps its exchange, routing key, properties and history of dying, and names the dead letter and the
replay's item, so that whoever settles the message settles these. Everything is part of the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final, NamedTuple

import msgspec
from django.db import transaction

from brokers import wakeup
from brokers.database import sync_cursor
from brokers.dead_letter_headers import without_deaths
from brokers.errors import QueueFull
from brokers.queues import topology
from brokers.queues.message import BCC, CC, Envelope, NewMessage, decode, encode
from brokers.queues.sending import publish_messages
from brokers.queues.storing import target
from brokers.queues.topology import QueueInfo
from brokers.record import JSON
from brokers.replays.plans import SQL
from brokers.replays.request import Target

FULL: Final = QueueFull.code
"""Why an item is skipped whose queue refuses what exceeds its length."""
UNROUTABLE: Final = "unroutable"
"""Why an item is skipped that reaches no queue from its target."""
_NULL: Final = b"null"


class Letter(NamedTuple):
    """A dead letter on its way; `headers` as they are to arrive, of a message with its deaths.

    The other fields are those of the message that it was, None for a record; key and value are None unless needed.
    """

    item_id: int
    dead_letter_id: int
    revision: int
    queue_id: int | None
    headers: Mapping[str, Any]
    value: bytes | None
    encoding: int
    exchange: str | None
    routing_key: str | None
    message_id: str | None
    correlation_id: str | None
    envelope: bytes | None
    priority: int | None

    def died_as(self) -> Envelope:
        """The envelope as it was when it died, or as much of it as the row tells."""
        if self.envelope is not None:
            return decode(self.envelope)
        return Envelope(
            exchange=self.exchange or "",
            routing_key=self.routing_key or "",
            message_id=self.message_id,
            correlation_id=self.correlation_id,
        )


# -- back ---------------------------------------------------------------------------------------------------------


def give_back(letters: Sequence[Letter]) -> dict[int, str]:
    """Puts messages back into their queues, behind what is there, in the order given.

    Answers the items that a queue has no room for, each with why; those are not given back. A queue that drops its
    oldest messages is cut to its length after the commit.
    """
    known = _queues({letter.queue_id for letter in letters if letter.queue_id is not None})
    room = _room(known.values())
    taken: list[tuple[Letter, QueueInfo]] = []
    refused: dict[int, str] = {}
    for letter in letters:
        queue = known.get(letter.queue_id or 0)
        if queue is None:  # deleted since it was looked for
            refused[letter.item_id] = "gone"
        elif room.get(queue.id, 1) < 1:
            refused[letter.item_id] = FULL
        else:
            taken.append((letter, queue))
            if queue.id in room:
                room[queue.id] -= 1
    if taken:
        places = [target(queue, letter.priority, None) for letter, queue in taken]
        rows = {
            "queues": [queue.id for _, queue in taken],
            "priorities": [place.priority for place in places],
            "ttls": [place.ttl_ms for place in places],
            "envelopes": [encode(_again(letter)) for letter, _ in taken],
            "letters": [letter.dead_letter_id for letter, _ in taken],
            "items": [letter.item_id for letter, _ in taken],
            "revisions": [letter.revision for letter, _ in taken],
        }
        with sync_cursor() as cursor:
            cursor.execute(SQL.give_back, rows)
        transaction.on_commit(partial(_given_back, {queue.id: queue for _, queue in taken}), robust=True)
    return refused


def _again(letter: Letter) -> Envelope:
    died = letter.died_as()
    hidden = {BCC: died.headers[BCC]} if BCC in died.headers else {}
    headers = without_deaths(letter.headers) if letter.envelope is not None else dict(letter.headers)
    return msgspec.structs.replace(died, headers=headers | hidden, expiration_ms=None)


def _queues(ids: set[int]) -> dict[int, QueueInfo]:
    known = topology.current()
    if any(known.queue_by_id(number) is None for number in ids):
        known = topology.fresh()
    found = {number: known.queue_by_id(number) for number in ids}
    return {number: queue for number, queue in found.items() if queue is not None}


def _room(queues: Any) -> dict[int, int]:
    """How many more messages those of the queues take that refuse what is too much; they are locked."""
    limits = {
        queue.id: queue.max_length
        for queue in queues
        if queue.max_length is not None and queue.overflow == "reject-publish"
    }
    if not limits:
        return {}
    with sync_cursor() as cursor:
        wanted = {"queues": list(limits), "limits": list(limits.values())}
        return dict(cursor.execute(SQL.room, wanted).fetchall())


def _given_back(queues: Mapping[int, QueueInfo]) -> None:
    wakeup.announce_queues(queues)
    for queue in queues.values():
        if queue.max_length is not None and queue.overflow == "drop-head":
            # Loaded late: dead-lettering, which cuts queues to their length, is no business of a replay's.
            import_module("brokers.queues.tending").enforce_length(queue)


# -- anew ---------------------------------------------------------------------------------------------------------


def publish(to: Target, letters: Sequence[Letter]) -> dict[int, str]:
    """Publishes dead letters as new messages, in the order given; answers the items that were not, each with why.

    By the target's own routing key alone: the messages' `CC` and `BCC` do not count. Raises `QueueNotFound` and
    `ExchangeNotFound` when the target is gone.
    """
    exchange, key = "", to.queue or ""
    if to.exchange is None:
        topology.queue(key)
    else:
        exchange, key = to.exchange, to.routing_key
        topology.exchange(exchange)
    refused: dict[int, str] = {}
    _publish(exchange, [(letter.item_id, _new(letter, key)) for letter in letters], refused)
    return refused


def _publish(exchange: str, messages: Sequence[tuple[int, NewMessage]], refused: dict[int, str]) -> None:
    """All of them at once; where a queue is full, half of them at a time, down to those that it has no room for."""
    if not messages:
        return
    try:
        with transaction.atomic():
            published = publish_messages(exchange, [message for _, message in messages])
    except QueueFull:
        if len(messages) == 1:
            refused[messages[0][0]] = FULL
            return
        middle = len(messages) // 2
        _publish(exchange, messages[:middle], refused)
        _publish(exchange, messages[middle:], refused)
        return
    refused.update(
        (item, UNROUTABLE) for (item, _), sent in zip(messages, published.sent, strict=True) if not sent.queues
    )


def _new(letter: Letter, routing_key: str) -> NewMessage:
    died = letter.died_as()
    return NewMessage(
        body=_NULL if letter.value is None else letter.value,
        encoding=JSON if letter.value is None else letter.encoding,
        routing_key=routing_key,
        headers={name: value for name, value in letter.headers.items() if name not in (CC, BCC)},
        priority=letter.priority,
        message_id=died.message_id,
        correlation_id=died.correlation_id,
        reply_to=died.reply_to,
        content_type=died.content_type,
        type=died.type,
    )
