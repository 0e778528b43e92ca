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
from realtime.stomp import bodies, queue_arguments
from realtime.stomp.frame import Frame

_NUMBERS: Final = {"priority": "priority", "expiration": "expiration_ms", "delay": "delay_ms", "x-delay": "delay_ms"}
_TEXTS: Final = {
    "correlation-id": "correlation_id",
    "amqp-message-id": "message_id",
    "type": "type",
    "content-type": "content_type",
}
_OTHERS: Final = (
    bodies.OF_FRAMES | queue_arguments.NAMES | _NUMBERS.keys() | _TEXTS.keys() | {"reply-to", "persistent", "timestamp"}
)


def message_of(frame: Frame, routing_key: str, reply_to: str | None = None) -> NewMessage:
    """The checked message; `reply_to` is the queue that its header of that name means.

    Raises `ProtocolError`, `InvalidValue`, `TooLarge` and `Malformed`.
    """
    headers = frame.headers
    bodies.check(frame)
    fields: dict[str, object] = {"reply_to": reply_to}
    for name, field in _NUMBERS.items():
        if name in headers:
            fields[field] = strict_json.parse_integer(headers[name], pointer=f"/{field}", minimum=0)
    for name, field in _TEXTS.items():
        if name in headers:
            fields[field] = headers[name]
    own = {name: text for name, text in headers.items() if name not in _OTHERS}
    body, encoding = bodies.stored(frame)
    return message_input.checked(
        NewMessage(body, encoding, routing_key, own or None, **fields)  # type: ignore[arg-type]  # by the tables above
    )
