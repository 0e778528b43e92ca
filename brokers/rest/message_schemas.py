"""The shapes of messages over the wire: publishing, claiming, settling and looking."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from brokers.rest.queue_schemas import Milliseconds, RoutingKey
from brokers.rest.schemas import Request
from brokers.settings import MAX_HEADERS, MAX_RECORDS_PER_REQUEST, MAX_WAIT_MS

DEFAULT_LEASE_MS = 30_000
MAX_LEASE_MS = 86_400_000
"""A day."""
MAX_REASON = 500
Text = Annotated[str, Meta(max_length=255)]
Lease = Annotated[int, Meta(ge=1, le=MAX_LEASE_MS)]
Claims = Annotated[list[Annotated[str, Meta(max_length=255)]], Meta(description="Handles that claims answered.")]


class MessageToPublish(Request, omit_defaults=True, gc=False):
    """One message. `body` or `body_base64` is needed."""

    body: msgspec.Raw | UnsetType = UNSET
    """Any JSON, kept as the bytes that came."""
    body_base64: str | None = None
    """Bytes instead."""
    routing_key: RoutingKey = ""
    headers: msgspec.Raw | UnsetType = UNSET
    """An object of any JSON values. `CC` and `BCC` are lists of further routing keys."""
    priority: Annotated[int, Meta(ge=0, le=255)] | None = None
    expiration_ms: Milliseconds | None = None
    """The message expires after so long in a queue."""
    delay_ms: Milliseconds | None = None
    """It is ready only after so long."""
    message_id: Text | None = None
    correlation_id: Text | None = None
    reply_to: Text | None = None
    content_type: Text | None = None
    type: Text | None = None


class MessagesToPublish(Request, omit_defaults=True):
    """1 to 1000 messages, stored all or none."""

    messages: list[MessageToPublish]
    mandatory: bool = False
    """Refuse all of them if one reaches no queue."""


class PublishResult(msgspec.Struct):
    """A stored message: its id, the same in each queue, and how many queues it reached."""

    id: int
    queues: int


class PublishResults(msgspec.Struct):
    """Results in the order in which the messages were given."""

    results: list[PublishResult]


class ClaimRequest(Request):
    """How many messages to take, for how long."""

    limit: Annotated[int, Meta(ge=1, le=MAX_RECORDS_PER_REQUEST)] = 1
    lease_ms: Lease = DEFAULT_LEASE_MS
    """A message that is not settled until then is ready again."""
    wait_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)] = 0
    """Milliseconds to wait for a message when there is none."""
    consumer: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")] | None = None
    """Who claims, on a queue with a single active consumer; the token's name when absent."""


class SeenMessage(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A message as it is read; a body that was not published as JSON comes as `body_base64`."""

    id: int
    queue: str
    exchange: str
    routing_key: str
    body: Any | UnsetType = UNSET
    body_base64: str | UnsetType = UNSET
    headers: dict[str, Any]
    priority: int
    message_id: str | None
    correlation_id: str | None
    reply_to: str | None
    content_type: str | None
    type: str | None
    timestamp: int
    """When it was published, in Unix milliseconds."""
    redelivered: bool
    delivery_count: int
    """How often it was claimed."""


class ClaimedMessage(SeenMessage, omit_defaults=True, kw_only=True):
    """A message under a claim; who knows `claim` settles it."""

    claim: str


class ClaimedMessages(msgspec.Struct):
    """Messages in order of priority and age."""

    messages: list[ClaimedMessage]


class QueuedMessage(SeenMessage, omit_defaults=True, kw_only=True):
    """A message as an onlooker sees it."""

    state: Literal["ready", "unacknowledged", "delayed"]
    due_at: str | None
    expires_at: str | None
    lease_until: str | None
    holder: str | None
    """Who has claimed it."""


class QueuedMessagePage(msgspec.Struct):
    """Messages of a queue."""

    items: list[QueuedMessage]
    next: str | None


class AckRequest(Request):
    """Claims whose messages were handled."""

    claims: Claims


class Acked(msgspec.Struct):
    """How many messages are done, and the claims that settle nothing any more."""

    acked: int
    stale: list[str]


class NackRequest(Request):
    """Claims whose messages were not handled."""

    claims: Claims
    requeue: bool = True
    """False: the messages are dead-lettered."""
    delay_ms: Milliseconds = 0
    """Requeued messages are ready only after so long."""
    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""
    """For people: it is shown with the dead letter."""


class Nacked(msgspec.Struct):
    """How many messages went back or were dead-lettered, and the claims that settle nothing any more."""

    nacked: int
    stale: list[str]


class LeaseRequest(Request):
    """Claims to keep for longer."""

    claims: Claims
    lease_ms: Lease = DEFAULT_LEASE_MS
    """From now."""


class Extended(msgspec.Struct):
    """How many leases were extended, and the claims that are not the caller's any more."""

    extended: int
    stale: list[str]


_SOME = {"minItems": 1, "maxItems": MAX_RECORDS_PER_REQUEST}
REFINEMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "MessagesToPublish": {"messages": _SOME},
    "MessageToPublish": {
        "": {"anyOf": [{"required": ["body"]}, {"required": ["body_base64"]}]},
        "headers": {"type": ["object", "null"], "maxProperties": MAX_HEADERS},
    },
    "AckRequest": {"claims": _SOME},
    "NackRequest": {"claims": _SOME},
    "LeaseRequest": {"claims": _SOME},
}
"""See `schemas.REFINEMENTS`."""
