"""The values that the modules of queues pass: a message as its consumer sees it, one to publish, and the envelope.

The envelope is what is stored beside the body: all that a publisher said, and what became of the message since. It is
decoded on first use, so that a consumer that looks at the body alone does not pay for it. Pure: no Django, no database.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec

from brokers.queues.routing import BCC, CC, without_bcc
from brokers.record import JSON

__all__ = ["BCC", "CC", "Death", "Envelope", "Message", "NewMessage", "Place"]


class Death(msgspec.Struct, omit_defaults=True):
    """One entry of `x-death`; `time` is in Unix seconds, of the first such death."""

    queue: str
    reason: str
    count: int
    time: int
    exchange: str
    routing_keys: list[str]
    original_expiration: str | None = None


class Place(msgspec.Struct):
    """Where a message died first, or last."""

    queue: str
    reason: str
    exchange: str


class Envelope(msgspec.Struct, omit_defaults=True):
    """All of a message but its body, with the headers as they were published."""

    exchange: str = ""
    routing_key: str = ""
    headers: dict[str, Any] = {}
    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    content_type: str | None = None
    type: str | None = None
    expiration_ms: int | None = None
    priority: int | None = None
    """As it was published, whatever the queue makes of it."""
    deaths: list[Death] = []
    """Newest first."""
    first_death: Place | None = None
    last_death: Place | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Envelope).decode
_decode_body = msgspec.json.Decoder().decode
_UNDECODED: Any = msgspec.UNSET


def encode(envelope: Envelope) -> bytes:
    """The envelope as it is stored."""
    return _encode(envelope)


def decode(stored: bytes) -> Envelope:
    """The envelope of what is stored; raises msgspec.DecodeError when that is damaged."""
    return _decode(stored)


def delivered_headers(envelope: Envelope) -> dict[str, Any]:
    """The headers that a consumer gets: those published without `BCC`, and what tells of deaths, as RabbitMQ writes it.

    A new dict. A client's own `x-death` shows only until the first death.
    """
    headers = without_bcc(envelope.headers)
    if envelope.deaths:
        headers["x-death"] = [_written(death) for death in envelope.deaths]
    for kind, place in (("first", envelope.first_death), ("last", envelope.last_death)):
        if place is not None:
            headers[f"x-{kind}-death-queue"] = place.queue
            headers[f"x-{kind}-death-reason"] = place.reason
            headers[f"x-{kind}-death-exchange"] = place.exchange
    return headers


def _written(death: Death) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "count": death.count,
        "reason": death.reason,
        "queue": death.queue,
        "time": death.time,
        "exchange": death.exchange,
        "routing-keys": death.routing_keys,
    }
    if death.original_expiration is not None:
        entry["original-expiration"] = death.original_expiration
    return entry


class Message(msgspec.Struct, eq=False):
    """A message of a queue, as its consumer or an onlooker gets it.

    `id` is what people and programs know it by: the same in all queues that it was routed to. `row` is its own. Times
    are aware; `lease_until`, `token` and `holder` tell of the last claim. The fields stand in the order of the columns
    that `sql/claims.sql` reads.
    """

    row: int
    queue_id: int
    id: int
    priority: int
    token: UUID | None
    lease_until: datetime | None
    due_at: datetime | None
    expires_at: datetime | None
    published_at: datetime
    holder: str | None
    deliveries: int
    """How often it was claimed, this claim included."""
    returns: int
    """How many claims ended in a requeue that does not count towards the delivery limit."""
    attempts: int
    """Failed attempts of a listener that are written down."""
    revision: int
    dead_letter_id: int | None
    replay_item_id: int | None
    encoding: int
    envelope_bytes: bytes
    body_bytes: bytes
    queue: str = ""
    _envelope: Envelope | None = None
    _headers: dict[str, Any] | None = None
    _body: Any = msgspec.UNSET

    @property
    def body(self) -> Any:
        """The decoded JSON value; bytes where the body was published as bytes."""
        if self.encoding != JSON:
            return self.body_bytes
        if self._body is _UNDECODED:
            self._body = _decode_body(self.body_bytes)
        return self._body

    @property
    def envelope(self) -> Envelope:
        """What is stored beside the body; not to be changed."""
        if self._envelope is None:
            self._envelope = _decode(self.envelope_bytes)
        return self._envelope

    @property
    def headers(self) -> dict[str, Any]:
        """As published, without `BCC`, with `x-death` and its companions when the message was dead-lettered."""
        if self._headers is None:
            self._headers = delivered_headers(self.envelope)
        return self._headers

    @property
    def exchange(self) -> str:
        """The exchange that it was published to last, empty for the default one."""
        return self.envelope.exchange

    @property
    def routing_key(self) -> str:
        """The routing key that it was published with last."""
        return self.envelope.routing_key

    @property
    def message_id(self) -> str | None:
        """The publisher's own id, uninterpreted; so are the following four."""
        return self.envelope.message_id

    @property
    def correlation_id(self) -> str | None:
        """What a reply belongs to."""
        return self.envelope.correlation_id

    @property
    def reply_to(self) -> str | None:
        """The queue that a reply is to be sent to."""
        return self.envelope.reply_to

    @property
    def content_type(self) -> str | None:
        """The body's media type."""
        return self.envelope.content_type

    @property
    def type(self) -> str | None:
        """The application's name for this kind of message."""
        return self.envelope.type

    @property
    def redelivered(self) -> bool:
        """Whether it was handed out before this claim."""
        return self.deliveries > 1

    @property
    def delivery_count(self) -> int:
        """1 at the first delivery."""
        return self.deliveries

    @property
    def attempt(self) -> int:
        """Which attempt of the listener this is, 1 at first: what was requeued by a consumer is none."""
        return self.attempts + 1

    @property
    def claim(self) -> str:
        """The handle that acknowledges, requeues or extends this claim; raises ValueError for one never claimed."""
        if self.token is None:
            raise ValueError(f"message {self.id} is not under a claim")
        return f"{self.row}.{self.token.hex}"

    def __repr__(self) -> str:
        return f"Message({self.queue}/{self.id}, routing_key={self.routing_key!r})"


_make: Any = Message


def read(row: tuple[Any, ...], queue: str) -> Message:
    """The message of a row of the columns that `sql/claims.sql` reads, from the queue of that name."""
    message: Message = _make(*row, queue)
    return message


class NewMessage(NamedTuple):
    """One message to publish whose body is bytes already; `encoding` is that of a record (`RAW` or `JSON`).

    `expiration_ms` counts from when the message is ready: after `delay_ms`.
    """

    body: bytes
    encoding: int
    routing_key: str = ""
    headers: Mapping[str, Any] | None = None
    priority: int | None = None
    expiration_ms: int | None = None
    delay_ms: int | None = None
    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    content_type: str | None = None
    type: str | None = None


def envelope_of(exchange: str, message: NewMessage) -> Envelope:
    """The envelope of a message that is published to an exchange now."""
    return Envelope(
        exchange,
        message.routing_key,
        {} if message.headers is None else cast("dict[str, Any]", message.headers),
        message.message_id,
        message.correlation_id,
        message.reply_to,
        message.content_type,
        message.type,
        message.expiration_ms,
        message.priority,
    )
