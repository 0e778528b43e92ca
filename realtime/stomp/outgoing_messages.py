"""What a SEND frame becomes on its way to a queue or an exchange: a message with RabbitMQ's properties.

Headers are those of RabbitMQ's plugin (`rabbit_stomp_util.erl`, message_properties): `priority`, `expiration` in ms,
`correlation-id`, `reply-to`, `amqp-message-id`, `type`, `content-type`; `persistent` is heard and everything is stored.
`delay` in ms is that of the delayed-message plugin (`x-delay`). All others are the message's own headers. Pure.
"""

from __future__ import annotations

from typing import Final

from brokers import strict_json
from brokers.queues import message_input
from brokers.queues.message import NewMessage
from realtime import destinations
from realtime.stomp import bodies
from realtime.stomp.frame import Frame

_NUMBERS: Final = {"priority": "priority", "expiration": "expiration_ms", "delay": "delay_ms", "x-delay": "delay_ms"}
_TEXTS: Final = {
    "correlation-id": "correlation_id",
    "amqp-message-id": "message_id",
    "type": "type",
    "content-type": "content_type",
}
_OTHERS: Final = bodies.OF_FRAMES | _NUMBERS.keys() | _TEXTS.keys() | {"reply-to", "persistent", "timestamp"}


def message_of(frame: Frame, routing_key: str) -> NewMessage:
    """The checked message. Raises `ProtocolError`, `InvalidValue`, `TooLarge` and `Malformed`."""
    headers = frame.headers
    bodies.check(frame)
    fields: dict[str, object] = {}
    for name, field in _NUMBERS.items():
        if name in headers:
            fields[field] = strict_json.parse_integer(headers[name], pointer=f"/{field}", minimum=0)
    for name, field in _TEXTS.items():
        if name in headers:
            fields[field] = headers[name]
    if "reply-to" in headers:
        fields["reply_to"] = reply_queue(headers["reply-to"])
    own = {name: text for name, text in headers.items() if name not in _OTHERS}
    body, encoding = bodies.stored(frame)
    return message_input.checked(
        NewMessage(body, encoding, routing_key, own or None, **fields)  # type: ignore[arg-type]  # by the tables above
    )


def reply_queue(text: str) -> str:
    """The queue that `reply-to` names: itself, or by one of its destinations. Raises `ProtocolError`."""
    if not text.startswith("/"):
        return text
    match destinations.parse(text):
        case destinations.Queue(name) | destinations.Reply(name):
            return name
        case _:
            return text
