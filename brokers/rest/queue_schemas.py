"""The shapes of exchanges, queues, bindings and policies over the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from brokers.rest.schemas import Name, Request

MAX_MILLISECONDS = 315_360_000_000
"""Ten years."""
ExchangeType = Literal["direct", "topic", "fanout", "headers"]
Overflow = Literal["drop-head", "reject-publish"]
DeadLetters = Literal["unrouted", "none"]
RoutingKey = Annotated[str, Meta(max_length=255)]
ExchangeName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{0,249}$",
        description='An exchange; "" is the default one.',
        extra_json_schema={"not": {"enum": [".", ".."]}},
    ),
]
Milliseconds = Annotated[int, Meta(ge=0, le=MAX_MILLISECONDS)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


# -- exchanges --------------------------------------------------------------------------------------------------


class ExchangeDeclaration(Request):
    """An exchange as it shall be."""

    type: ExchangeType = "direct"
    alternate_exchange: Name | None = None
    """Gets what reaches no queue. It need not exist yet."""


class Exchange(msgspec.Struct):
    """An exchange; `bindings` counts those from it."""

    name: str
    type: ExchangeType
    alternate_exchange: str | None
    bindings: int
    created_at: str


class ExchangePage(msgspec.Struct):
    """Exchanges that the caller may describe, by name."""

    items: list[Exchange]
    next: str | None


class RouteQuestion(Request):
    """A message that might be published."""

    routing_key: RoutingKey = ""
    headers: dict[str, Any] = {}


class RouteStep(msgspec.Struct):
    """A binding that such a message would follow, or the way to an alternate exchange, and why."""

    exchange: str
    binding_id: int | None
    """Null where none is needed."""
    queue: str | None
    to_exchange: str | None
    routing_key: str | None
    """The binding's, as its arguments."""
    arguments: dict[str, Any] | None
    why: str


class RouteAnswer(msgspec.Struct):
    """The queues that it would reach, each once, and the ways there."""

    queues: list[str]
    steps: list[RouteStep]


# -- queues -----------------------------------------------------------------------------------------------------


class SharedSettings(Request):
    """What a queue and a policy may both say; absent or null: nothing."""

    message_ttl_ms: Milliseconds | UnsetType | None = UNSET
    """Messages expire after so long in the queue, or after their own `expiration_ms` if that is shorter."""
    expires_ms: Annotated[int, Meta(ge=1, le=MAX_MILLISECONDS)] | UnsetType | None = UNSET
    """The queue is deleted when it was not used for so long."""
    max_length: Count | UnsetType | None = UNSET
    """Ready messages that it holds at most."""
    overflow: Overflow | UnsetType | None = UNSET
    """`drop-head` (the default) gives up the oldest, `reject-publish` refuses the newest."""
    dead_letter_exchange: ExchangeName | UnsetType | None = UNSET
    """Gets what is rejected, has expired, is too much or was delivered too often. It need not exist yet."""
    dead_letter_routing_key: RoutingKey | UnsetType | None = UNSET
    """Instead of the message's own. Only with a dead-letter exchange."""
    delivery_limit: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | UnsetType | None = UNSET
    """Failed deliveries beyond this (20 by default) give a message up; -1: none do."""


class QueueDeclaration(SharedSettings):
    """A queue as it shall be."""

    max_priority: Annotated[int, Meta(ge=0, le=255)] | UnsetType | None = UNSET
    """Priorities from 0 to this one are told apart; absent: none are."""
    single_active_consumer: bool = False
    """One consumer at a time gets messages, the next when it is gone."""
    dead_letters: DeadLetters = "unrouted"
    """Whether what the queue itself gives up, and no dead-letter exchange leads to a queue, becomes a dead letter."""


class EffectiveSettings(msgspec.Struct):
    """What holds, with the policy's settings and the defaults."""

    message_ttl_ms: int | None
    expires_ms: int | None
    max_length: int | None
    overflow: Overflow
    dead_letter_exchange: str | None
    dead_letter_routing_key: str | None
    delivery_limit: int


class Queue(msgspec.Struct):
    """A queue: its settings as declared, what holds together with the policy, and what waits in it."""

    name: str
    message_ttl_ms: int | None
    expires_ms: int | None
    max_length: int | None
    overflow: Overflow
    max_priority: int | None
    dead_letter_exchange: str | None
    dead_letter_routing_key: str | None
    delivery_limit: int
    single_active_consumer: bool
    dead_letters: DeadLetters
    policy: str | None
    """The policy that holds for it."""
    effective: EffectiveSettings
    paused: bool
    temporary: bool
    created_at: str
    messages: int
    """Ready, unacknowledged and delayed together."""
    ready: int
    unacknowledged: int
    delayed: int
    consumers: int
    oldest_ready_at: str | None
    """When the oldest ready message was published."""


class QueuePage(msgspec.Struct):
    """Queues that the caller may describe, by name."""

    items: list[Queue]
    next: str | None


class MoveRequest(Request):
    """Where ready messages go, and how many at most."""

    to: Name
    limit: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    """Null: all that are there."""


class Moved(msgspec.Struct):
    """How many messages went."""

    moved: int


# -- bindings ---------------------------------------------------------------------------------------------------


class BindingDeclaration(Request):
    """From an exchange to a queue or to another exchange."""

    exchange: Name
    queue: Name | None = None
    to_exchange: Name | None = None
    routing_key: RoutingKey = ""
    """A key for a direct exchange, a pattern for a topic exchange."""
    arguments: dict[str, Any] = {}
    """For a headers exchange: what the headers must be, and `x-match`."""


class Binding(msgspec.Struct):
    """A binding; one of `queue` and `to_exchange` is null."""

    id: int
    exchange: str
    queue: str | None
    to_exchange: str | None
    routing_key: str
    arguments: dict[str, Any]
    created_at: str


class BindingPage(msgspec.Struct):
    """Bindings whose both ends the caller may describe, oldest first."""

    items: list[Binding]
    next: str | None


# -- policies ---------------------------------------------------------------------------------------------------


class PolicyDeclaration(SharedSettings, kw_only=True):
    """Settings for all queues whose name matches the pattern; at least one of them."""

    pattern: Annotated[str, Meta(min_length=1, max_length=255)]
    """A regular expression, found anywhere in a queue's name unless anchored."""
    priority: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] = 0
    """Of several policies that match, the one of the highest priority holds."""


class Policy(msgspec.Struct):
    """A policy; null where it says nothing."""

    name: str
    pattern: str
    priority: int
    message_ttl_ms: int | None
    expires_ms: int | None
    max_length: int | None
    overflow: Overflow | None
    dead_letter_exchange: str | None
    dead_letter_routing_key: str | None
    delivery_limit: int | None
    created_at: str


class PolicyPage(msgspec.Struct):
    """Policies by name."""

    items: list[Policy]
    next: str | None


REFINEMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "BindingDeclaration": {
        "": {
            "oneOf": [
                {"required": [given], "properties": {given: {"type": "string"}, other: {"type": "null"}}}
                for given, other in (("queue", "to_exchange"), ("to_exchange", "queue"))
            ]
        }
    },
}
"""See `schemas.REFINEMENTS`."""
