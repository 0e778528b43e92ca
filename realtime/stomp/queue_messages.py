"""A queue's message as a MESSAGE frame, as RabbitMQ's plugin writes it (`rabbit_stomp_util.erl`). Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from brokers.queues.message import Message
from brokers.record import JSON
from realtime.destinations import escaped
from realtime.stomp.frame import Frame
from realtime.stomp.settling import handle
from realtime.stomp.subscription import AUTO

JSON_TYPE: Final = "application/json"
BYTES_TYPE: Final = "application/octet-stream"
_encode = msgspec.json.Encoder().encode


def message_frame(name: str, serial: int, mode: str, number: int, message: Message) -> Frame:
    """The delivery of that number to the subscription of that name and serial.

    The publisher's headers come last: none of them can stand in for ours.
    """
    settles = handle(message.id, serial, number)
    headers = {
        "subscription": name,
        "destination": destination_of(message),
        "message-id": settles,
        "redelivered": "true" if message.redelivered else "false",
        "delivery-count": str(message.delivery_count),
        "priority": str(message.priority),
        "timestamp": str(int(message.published_at.timestamp() * 1000)),
        "content-type": message.content_type or (JSON_TYPE if message.encoding == JSON else BYTES_TYPE),
        "content-length": str(len(message.body_bytes)),
    }
    if mode != AUTO:
        headers["ack"] = settles
    properties = (
        ("amqp-message-id", message.message_id),
        ("correlation-id", message.correlation_id),
        ("type", message.type),
    )
    headers |= {name: text for name, text in properties if text is not None}
    if message.reply_to is not None:
        headers["reply-to"] = f"/reply-queue/{escaped(message.reply_to)}"
    for name, value in message.headers.items():
        headers.setdefault(name, _text(value))
    return Frame("MESSAGE", headers, message.body_bytes)


def destination_of(message: Message) -> str:
    """Where it was sent to."""
    if message.exchange:
        return f"/exchange/{escaped(message.exchange)}/{escaped(message.routing_key)}"
    return f"/queue/{escaped(message.routing_key)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _encode(value).decode()
