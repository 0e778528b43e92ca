"""The settings of queues as arguments: the same for `queues declare` and for `policies set`."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any, Final

from brokers import terminal
from brokers.models.queues import DEAD_LETTERS, OVERFLOWS
from brokers.terminal import whole_number

SHARED: Final = (
    "message_ttl_ms",
    "expires_ms",
    "max_length",
    "overflow",
    "dead_letter_exchange",
    "dead_letter_routing_key",
    "delivery_limit",
)
"""What a policy may set, too."""
OWN: Final = ("max_priority", "single_active_consumer", "dead_letters")


def limit(text: str) -> int:
    """A number of deliveries, or -1 for any number."""
    return -1 if text in ("-1", "none") else whole_number(text)


def add_shared(action: ArgumentParser) -> None:
    """The settings that a policy may set, too."""
    action.add_argument("--message-ttl-ms", type=whole_number, metavar="MS", help="how long a message may wait")
    action.add_argument("--expires-ms", type=whole_number, metavar="MS", help="deleted when unused for so long")
    action.add_argument("--max-length", type=whole_number, metavar="N", help="messages that may be ready")
    action.add_argument("--overflow", choices=OVERFLOWS, help="what happens beyond; else drop-head")
    action.add_argument("--dead-letter-exchange", metavar="E", help="'' is the default exchange")
    action.add_argument("--dead-letter-routing-key", metavar="K")
    action.add_argument("--delivery-limit", type=limit, metavar="N|none", help="failed deliveries; else 20")


def add_own(action: ArgumentParser) -> None:
    """The settings that only a declaration has."""
    action.add_argument("--max-priority", type=whole_number, metavar="N", help="0 to 255; else no priorities")
    action.add_argument("--single-active-consumer", action="store_true", default=None)
    action.add_argument("--dead-letters", choices=DEAD_LETTERS, help="none: what expires leaves nothing behind")


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given."""
    return {name: options[name] for name in (*SHARED, *OWN) if options.get(name) is not None}


def text(name: str, value: Any) -> str:
    """A setting's value for people."""
    if name.endswith("_ms"):
        return terminal.duration(value)
    if name == "delivery_limit" and value == -1:
        return "none"
    if name == "dead_letter_exchange" and value == "":
        return "the default exchange"
    return {True: "yes", False: "no"}.get(value, f"{value}") if isinstance(value, bool) else f"{value}"
