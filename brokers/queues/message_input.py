"""From Python values to messages: what may be sent, checked where it enters.

Called by `sending` for Python code and by the surfaces, which bring bodies that are bytes already. Each error says
which value is wrong, and of several messages which one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from brokers.errors import (
    BrokerError,
    InvalidType,
    InvalidValue,
    JsonNumber,
    TooLarge,
    UnencodableValue,
    UnknownField,
    shown,
)
from brokers.json_checks import check_numbers
from brokers.queues.message import NewMessage
from brokers.queues.routing import BCC, CC, check_key, routing_keys
from brokers.record import JSON, RAW
from brokers.record_input import encode_json, value_bytes
from brokers.settings import MAX_HEADER_BYTES, MAX_HEADERS

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""Of one message."""
MAX_CALL_BYTES: Final = 256 * 1024 * 1024
"""Bodies of all messages of one call; PostgreSQL takes no statement of a gigabyte."""
MAX_PROPERTY_LENGTH: Final = 255
"""Characters of `message_id` and its like."""
MAX_PRIORITY: Final = 255
MAX_DELAY_MS: Final = 315_360_000_000
"""Ten years; also of an expiration."""

PROPERTIES: Final = ("message_id", "correlation_id", "reply_to", "content_type", "type")
_FIELDS = frozenset(NewMessage._fields) - {"encoding"}
_ENCODINGS = (RAW, JSON)
_JSON_SCALARS = (str, int, float, bool, type(None))
_decode_json = msgspec.json.Decoder().decode


def messages(given: Iterable[Mapping[str, Any] | NewMessage], routing_key: str | None = None) -> list[NewMessage]:
    """Checked messages; a mapping has `body` and what else `send` takes.

    `routing_key` is that of messages which bring none. Raises `InvalidValue`, `TooLarge` and `UnencodableValue` with
    the index of the wrong one.
    """
    found: list[NewMessage] = []
    size = 0
    for message in given:
        try:
            if type(message) is NewMessage:
                taken = checked(message)
            elif isinstance(message, Mapping):
                taken = _from_mapping(message, routing_key)
            else:
                raise InvalidType(f"a message is a mapping with a body, not {shown(message)}")
            size += len(taken.body)
            if size > MAX_CALL_BYTES:
                raise TooLarge(
                    f"the bodies up to it have over {MAX_CALL_BYTES} bytes together; send them in several calls"
                )
        except (InvalidValue, TooLarge, UnencodableValue) as error:
            raise _located(error, len(found)) from error
        found.append(taken)
    return found


def _from_mapping(message: Mapping[str, Any], routing_key: str | None) -> NewMessage:
    if not message.keys() <= _FIELDS:
        unknown = min(map(str, message.keys() - _FIELDS))
        raise UnknownField(f"a message has no field {shown(unknown)}; it has {', '.join(sorted(_FIELDS))}")
    if "body" not in message:
        raise InvalidValue("a message needs a body", pointer="/body")
    fields = dict(message)
    if routing_key is not None:
        fields.setdefault("routing_key", routing_key)
    return single(fields.pop("body"), **fields)


def single(body: Any, **fields: Any) -> NewMessage:
    """One checked message: a body of bytes as it is, any other as JSON; `fields` are those of `NewMessage`."""
    if body is None:
        stored, encoding = b"null", JSON
    else:
        stored, encoding = value_bytes(body)  # type: ignore[assignment]  # None comes from None alone
        if encoding == JSON:
            _check_numbers(stored)
    return checked(NewMessage(stored, encoding, **fields))


def checked(message: NewMessage) -> NewMessage:
    """The message within all limits, its headers as JSON knows them.

    Its body is bytes already; of encoding `JSON` they must be JSON text that has passed `strict_json`.
    """
    body, encoding, key, headers, priority, expiration, delay, *properties = message
    if type(body) is not bytes:
        raise InvalidType(f"the body of a NewMessage is bytes, not {shown(body)}", pointer="/body")
    if type(encoding) is not int or encoding not in _ENCODINGS:
        raise InvalidValue(f"an encoding is RAW or JSON, not {shown(encoding)}", pointer="/encoding")
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(
            f"the body has {len(body)} bytes; {MAX_BODY_BYTES} are allowed", errors=[("/body", "it is too large")]
        )
    if key:
        check_key(key)
    elif type(key) is not str:
        raise InvalidType(f"a routing key is text, not {shown(key)}", pointer="/routing_key")
    if priority is not None:
        _check_number("priority", priority, MAX_PRIORITY)
    if expiration is not None:
        _check_number("expiration_ms", expiration, MAX_DELAY_MS)
    if delay is not None:
        _check_number("delay_ms", delay, MAX_DELAY_MS)
    for name, text in zip(PROPERTIES, properties, strict=True):
        if text is not None:
            _check_property(name, text)
    if headers is None:
        return message
    wanted = checked_headers(headers)
    return message if wanted is headers else message._replace(headers=wanted or None)


def _check_numbers(text: bytes) -> None:
    try:
        check_numbers(text)
    except JsonNumber as error:
        raise UnencodableValue(f"the value cannot be sent: {error.detail}") from error


def _check_number(name: str, value: Any, most: int) -> None:
    if type(value) is not int:
        raise InvalidType(f"{name} is an integer, not {shown(value)}", pointer=f"/{name}")
    if not 0 <= value <= most:
        raise InvalidValue(f"{name} is 0 to {most}, not {shown(value)}", pointer=f"/{name}")


def _check_property(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise InvalidType(f"{name} is text, not {shown(text)}", pointer=f"/{name}")
    if len(text) > MAX_PROPERTY_LENGTH:
        raise InvalidValue(f"{name} has {len(text)} characters; {MAX_PROPERTY_LENGTH} are allowed", pointer=f"/{name}")
    if not text.isascii():
        _check_unicode(name, text)


def _check_unicode(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(f"{name} {shown(text)} holds half of a surrogate pair", pointer=f"/{name}") from error


def checked_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers, within their limits: 64 of them, 16 KiB of JSON together, names text and values any JSON.

    Values come back as JSON reads them (a tuple as a list, an instant as text), since routing compares them.
    """
    if not isinstance(headers, Mapping):
        raise InvalidType(f"headers are a mapping of text to JSON, not {shown(headers)}", pointer="/headers")
    if len(headers) > MAX_HEADERS:
        raise InvalidValue(f"{len(headers)} headers are more than {MAX_HEADERS}", pointer="/headers")
    plain = type(headers) is dict
    for name, value in headers.items():
        if not isinstance(name, str):
            raise InvalidType(f"the name of header {shown(name)} must be text", pointer="/headers")
        plain = plain and type(name) is str and type(value) in _JSON_SCALARS
    try:
        text = encode_json(headers)
        _check_numbers(text)
    except UnencodableValue as error:
        raise InvalidValue(f"the headers have no JSON form: {error.detail}", pointer="/headers") from error
    if len(text) > MAX_HEADER_BYTES:
        raise InvalidValue(
            f"the headers have {len(text)} bytes as JSON; {MAX_HEADER_BYTES} are allowed", pointer="/headers"
        )
    wanted: dict[str, Any] = headers if plain else _decode_json(text)  # type: ignore[assignment]
    if CC in wanted or BCC in wanted:
        routing_keys("", wanted)
    return wanted


def _located(error: BrokerError, index: int) -> BrokerError:
    if isinstance(error, UnencodableValue):
        return UnencodableValue(f"message {index}: {error.detail}", errors=[(f"/{index}/body", error.detail)])
    return type(error)(
        f"message {index}: {error.detail}",
        errors=[(f"/{index}{pointer}", detail) for pointer, detail in error.errors],
    )
