"""Headers of SUBSCRIBE and SEND that say how a missing queue is to be declared. Pure.

They are RabbitMQ's (`rabbit_stomp_headers.hrl`, HEADER_ARGUMENTS), as far as queues here have such settings.
"""

from __future__ import annotations

from typing import Final

from brokers.errors import InvalidValue
from brokers.queues.arguments import QueueSettings
from brokers.strict_json import parse_integer
from realtime.errors import ProtocolError
from realtime.stomp.frame import Frame

_NUMBERS: Final = {
    "x-expires": "expires_ms",
    "x-message-ttl": "message_ttl_ms",
    "x-max-length": "max_length",
    "x-max-priority": "max_priority",
    "x-delivery-limit": "delivery_limit",
}
_TEXTS: Final = {
    "x-dead-letter-exchange": "dead_letter_exchange",
    "x-dead-letter-routing-key": "dead_letter_routing_key",
    "x-overflow": "overflow",
}
_SINGLE: Final = "x-single-active-consumer"
NAMES: Final = _NUMBERS.keys() | _TEXTS.keys() | {_SINGLE}


def settings_of(frame: Frame) -> QueueSettings:
    """What the headers say. Raises `ProtocolError` for what is no number or truth value."""
    found: dict[str, object] = {}
    for name, text in frame.headers.items():
        if name in _NUMBERS:
            try:
                found[_NUMBERS[name]] = parse_integer(text)
            except InvalidValue as error:
                raise ProtocolError(f"the header {name}: {error.detail}", "invalid_header") from error
        elif name in _TEXTS:
            found[_TEXTS[name]] = text
        elif name == _SINGLE:
            if text not in ("true", "false"):
                raise ProtocolError(f"{name} is true or false", "invalid_header")
            found["single_active_consumer"] = text == "true"
    return found  # type: ignore[return-value]  # the names are those of the tables
