"""Exchanges, queues and bindings as routing and delivery see them, and how a policy joins a queue's own settings. Pure.

Borrowed from RabbitMQ's `rabbit_queue_type_util` and `rabbit_quorum_queue`: the smaller number wins, a queue's own
word wins over a policy's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

DELIVERY_LIMIT: Final = 20
"""Failed deliveries that a message may have, where nothing is said; -1: any number."""
OVERFLOW: Final = "drop-head"


@dataclass(frozen=True, slots=True)
class ExchangeInfo:
    """An exchange; the default one has id 0 and an empty name."""

    id: int
    name: str
    type: str
    alternate_exchange: str | None


DEFAULT_EXCHANGE: Final = ExchangeInfo(0, "", "direct", None)


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue with what is in effect for it: its own settings, its policy's, and defaults."""

    id: int
    name: str
    max_priority: int | None
    message_ttl_ms: int | None
    expires_ms: int | None
    max_length: int | None
    overflow: str
    dead_letter_exchange: str | None
    """Empty: the default exchange. None: dead letters go nowhere."""
    dead_letter_routing_key: str | None
    delivery_limit: int
    """-1: none."""
    single_active_consumer: bool
    dead_letters: str
    paused: bool
    temporary: bool
    policy: str | None
    """The name of the one policy that applies."""


@dataclass(frozen=True, slots=True, eq=False)
class BindingInfo:
    """A binding of an exchange to a queue or to another exchange, by their names."""

    id: int
    exchange: str
    queue: str | None
    to_exchange: str | None
    routing_key: str
    arguments: Mapping[str, Any]


class Settings(NamedTuple):
    """What both a queue and a policy may say; None where nothing is said."""

    message_ttl_ms: int | None
    expires_ms: int | None
    max_length: int | None
    overflow: str | None
    dead_letter_exchange: str | None
    dead_letter_routing_key: str | None
    delivery_limit: int | None


NOTHING: Final = Settings(None, None, None, None, None, None, None)


def effective(own: Settings, policy: Settings) -> Settings:
    """Both together. Numbers: the smaller; of delivery limits the larger when one is none. Else: the queue's own."""
    return Settings(
        _smaller(own.message_ttl_ms, policy.message_ttl_ms),
        _smaller(own.expires_ms, policy.expires_ms),
        _smaller(own.max_length, policy.max_length),
        own.overflow or policy.overflow or OVERFLOW,
        policy.dead_letter_exchange if own.dead_letter_exchange is None else own.dead_letter_exchange,
        policy.dead_letter_routing_key if own.dead_letter_routing_key is None else own.dead_letter_routing_key,
        _delivery_limit(own.delivery_limit, policy.delivery_limit),
    )


def _smaller(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _delivery_limit(one: int | None, other: int | None) -> int:
    if one is None or other is None:
        given = other if one is None else one
        return DELIVERY_LIMIT if given is None else given
    return max(one, other) if min(one, other) < 0 else min(one, other)
