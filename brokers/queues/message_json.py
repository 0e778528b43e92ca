"""A queue's message as JSON text, the same on every surface: REST's answers and the commands.

JSON bodies are the very bytes that were published, pasted in without being parsed again. Pure.
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import msgspec

from brokers.queues.message import Message
from brokers.record import JSON

_encode = msgspec.json.Encoder().encode


class _Rest(msgspec.Struct):
    """All of a message but its handles and its body."""

    queue: str
    exchange: str
    routing_key: str
    headers: dict[str, Any]
    priority: int
    message_id: str | None
    correlation_id: str | None
    reply_to: str | None
    content_type: str | None
    type: str | None
    timestamp: int
    redelivered: bool
    delivery_count: int


class _State(msgspec.Struct):
    """What an onlooker sees beside the message."""

    state: str
    due_at: str | None
    expires_at: str | None
    lease_until: str | None
    holder: str | None


def claimed_json(message: Message) -> bytes:
    """A message under a claim, with the handle that settles it."""
    return b'{"id":%d,"claim":"%b",%b,%b' % (message.id, message.claim.encode(), _body(message), _rest(message)[1:])


def seen_json(message: Message) -> bytes:
    """A message as an onlooker sees it: with its state and without a handle."""
    held = message.lease_until is not None
    state = _State(
        "unacknowledged" if held else "delayed" if message.due_at is not None else "ready",
        _instant(message.due_at),
        _instant(message.expires_at),
        _instant(message.lease_until),
        message.holder if held else None,
    )
    rest = _rest(message)
    return b'{"id":%d,%b,%b,%b' % (message.id, _body(message), rest[1:-1], _encode(state)[1:])


def _rest(message: Message) -> bytes:
    envelope = message.envelope
    return _encode(
        _Rest(
            message.queue,
            envelope.exchange,
            envelope.routing_key,
            message.headers,
            message.priority,
            envelope.message_id,
            envelope.correlation_id,
            envelope.reply_to,
            envelope.content_type,
            envelope.type,
            int(message.published_at.timestamp() * 1000),
            message.redelivered,
            message.delivery_count,
        )
    )


def _body(message: Message) -> bytes:
    if message.encoding == JSON:
        return b'"body":' + message.body_bytes
    return b'"body_base64":"%b"' % base64.b64encode(message.body_bytes)


def _instant(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
