"""Publishing messages to exchanges and queues over REST.

A hot path: a body is decoded once, its JSON values stay the bytes that came in, and all of them are stored by one
statement on the pool.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from brokers import json_duplicates, strict_json
from brokers.access import authorize
from brokers.errors import (
    BatchTooLarge,
    BrokerError,
    ExchangeNotFound,
    InvalidType,
    InvalidValue,
    QueueFull,
    QueueNotFound,
    Unroutable,
)
from brokers.queues import message_input, sending, tending, topology
from brokers.queues.message import NewMessage
from brokers.queues.routing import routing_keys
from brokers.record import JSON, RAW
from brokers.rest import message_schemas as schemas
from brokers.rest.operation import Access, Answer, Call, Operation
from brokers.rest.threads import in_thread
from brokers.settings import MAX_RECORDS_PER_REQUEST
from brokers.strict_json import ABSENT

_reader = strict_json.BatchReader(
    schemas.MessagesToPublish,
    schemas.MessageToPublish,
    items=lambda body: body.messages,
    values=lambda messages: [ABSENT if message.body is UNSET else message.body for message in messages],
)
_NULL = b"null"
_headers_alone = msgspec.json.Decoder(dict[str, str | bool | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None])
"""Of the usual headers, which need no second look: flat, and numbers that every client can hold."""
_SHORT = 4096
_encode = msgspec.json.Encoder().encode
_WRITE_COPIED = Access("write", "queue", why="on the queues that the headers CC and BCC name")


async def post_exchange_messages(call: Call) -> Answer:
    """Stores 1 to 1000 messages, all or none, and answers once they are on disk.

    One that reaches no queue counts 0 queues; with `mandatory` it refuses them all.
    """
    messages, mandatory = read_messages(call.raw)
    return await _published(call.path["exchange"], messages, mandatory)


async def post_queue_messages(call: Call) -> Answer:
    """The same through the default exchange: the routing key is the queue's name."""
    name = call.path["queue"]
    messages, mandatory = read_messages(call.raw, name)
    for index, message in enumerate(messages):
        if message.routing_key != name:
            detail = "the routing key of a message to a queue is the queue's name, or absent"
            raise _wrong(InvalidValue(detail, pointer="/routing_key"), index)
        if message.headers:
            for key in routing_keys(name, message.headers)[1:]:
                authorize(call.principal, "write", "queue", key)
    await topology.aqueue(name)
    return await _published("", messages, mandatory)


def operations() -> list[Operation]:
    """Declarations of both operations."""
    return [
        Operation(
            method="POST",
            path="/api/v1/exchanges/{exchange}/messages",
            summary="Publish messages to an exchange",
            tag="Messages",
            access=(Access("write", "exchange", "exchange"),),
            handler=post_exchange_messages,
            body=schemas.MessagesToPublish,
            raw_body=True,
            answers={200: schemas.PublishResults},
            problems=(ExchangeNotFound, Unroutable, QueueFull, BatchTooLarge),
        ),
        Operation(
            method="POST",
            path="/api/v1/queues/{queue}/messages",
            summary="Publish messages to a queue",
            tag="Messages",
            access=(Access("write", "queue", "queue"), _WRITE_COPIED),
            handler=post_queue_messages,
            body=schemas.MessagesToPublish,
            raw_body=True,
            answers={200: schemas.PublishResults},
            problems=(QueueNotFound, Unroutable, QueueFull, BatchTooLarge),
        ),
    ]


async def _published(exchange: str, messages: list[NewMessage], mandatory: bool) -> Answer:
    published = await sending.apublish_messages(exchange, messages, mandatory)
    for queue in published.crowded:
        await in_thread(tending.enforce_length, queue)
    results = b",".join([b'{"id":%d,"queues":%d}' % sent for sent in published.sent])
    return Answer(body=b'{"results":[%b]}' % results)


def read_messages(raw: bytes, routing_key: str = "") -> tuple[list[NewMessage], bool]:
    """The checked messages of a body, and whether they are mandatory; `routing_key` is that of those without one.

    Raises what is wrong with it, with a pointer to where.
    """
    body, values = _reader.read(raw)
    if len(body.messages) > MAX_RECORDS_PER_REQUEST:
        raise BatchTooLarge(f"{len(body.messages)} messages are more than {MAX_RECORDS_PER_REQUEST} in one request")
    if not body.messages:
        raise InvalidValue("at least one message is needed", pointer="/messages")
    found: list[NewMessage] = []
    for index, (message, value) in enumerate(zip(body.messages, values, strict=True)):
        try:
            found.append(message_input.checked(_message(message, value, routing_key)))
        except BrokerError as error:
            raise _wrong(error, index) from error
    return found, body.mandatory


def _message(message: schemas.MessageToPublish, value: bytes, routing_key: str) -> NewMessage:
    encoding = JSON
    if message.body_base64 is not None:
        if value:
            raise InvalidValue("give body or body_base64, not both", pointer="/body_base64")
        value, encoding = _from_base64(message.body_base64), RAW
    elif not value:
        raise InvalidValue("body or body_base64 is needed", pointer="/body")
    return NewMessage(
        value,
        encoding,
        message.routing_key or routing_key,
        None if message.headers is UNSET else _headers(bytes(message.headers)),
        message.priority,
        message.expiration_ms,
        message.delay_ms,
        message.message_id,
        message.correlation_id,
        message.reply_to,
        message.content_type,
        message.type,
    )


def _headers(text: bytes) -> dict[str, Any] | None:
    if text == _NULL:
        return None
    try:
        headers = _headers_alone.decode(text)
        if len(text) <= _SHORT and json_duplicates.accounts_for(_encode(headers), text):
            return headers
    except msgspec.DecodeError:
        pass  # read again below, for an error of ours or for other values
    try:
        headers = strict_json.loads(text)
    except BrokerError as error:
        raise _below(error, "/headers") from error
    if not isinstance(headers, dict):
        raise InvalidType("headers are an object", pointer="/headers")
    return headers


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValue("is not base64 (RFC 4648, section 4)", pointer="/body_base64") from error


def _wrong(error: BrokerError, index: int) -> BrokerError:
    """The error with the place of the message in front."""
    located = _below(error, f"/messages/{index}")
    return type(error)(f"message {index}: {error.detail}", errors=located.errors)


def _below(error: BrokerError, pointer: str) -> BrokerError:
    return type(error)(error.detail, errors=[(f"{pointer}{at}", detail) for at, detail in error.errors])
