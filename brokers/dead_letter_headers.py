"""The headers of dead letters: text on what came from a topic, any JSON value on what came from a queue.

Holds what is added on the way and never kept, what tells a message's deaths, and how headers of one kind become those
of the other when a replay publishes anew. Called by `dead_letters`, by replays and by what shows dead letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from brokers import record_input
from brokers.errors import InvalidType, InvalidValue, UnencodableValue, shown
from brokers.queues import message
from brokers.queues.message import Envelope
from brokers.settings import MAX_HEADER_BYTES, MAX_HEADERS
from brokers.task_calls import KIND

OWN_PREFIX: Final = "x-waystation-"
"""Headers that Waystation adds on the way; they never become part of a record or message."""
DEATHS: Final = frozenset(
    ("x-death", *(f"x-{which}-death-{part}" for which in ("first", "last") for part in ("queue", "reason", "exchange")))
)
"""Headers that tell what queues did with a message; they are kept apart from those that it was published with."""

Value = TypeVar("Value")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def decoded(headers: bytes) -> dict[str, Any]:
    """Headers as a dead letter's revision holds them."""
    return _decode(headers) if headers else {}


def without_own(headers: Mapping[str, Value]) -> dict[str, Value]:
    """Headers without those that Waystation added on the way."""
    return {name: value for name, value in headers.items() if not name.lower().startswith(OWN_PREFIX)}


def unmarked(envelope: Envelope) -> Envelope:
    """A message's envelope without the headers that Waystation added on the way."""
    kept = without_own(envelope.headers)
    return envelope if len(kept) == len(envelope.headers) else msgspec.structs.replace(envelope, headers=kept)


def without_deaths(headers: Mapping[str, Value]) -> dict[str, Value]:
    """Headers without those that tell a message's deaths."""
    return {name: value for name, value in headers.items() if name not in DEATHS}


def arriving(headers: bytes, envelope: bytes | None) -> dict[str, Any]:
    """A revision's headers as its consumer gets them: on a message with its deaths, of which its envelope tells."""
    kept = decoded(headers)
    if envelope is None:
        return kept
    died = message.decode(envelope)
    return message.delivered_headers(msgspec.structs.replace(died, headers=without_deaths(kept)))


def text_of(value: Any) -> str:
    """A header's value as text: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def as_text(headers: Mapping[str, Any]) -> dict[str, str]:
    """Headers as a topic's record can have them."""
    return {name: text_of(value) for name, value in headers.items()}


def size_of(headers: Mapping[str, Any]) -> int:
    """Bytes of names and values, those that are no text as JSON."""
    return sum(len(name.encode()) + len(text_of(value).encode()) for name, value in headers.items())


def checked(headers: Mapping[str, Any], source_kind: str) -> dict[str, Any]:
    """The headers that an edit gives to a dead letter, without what Waystation adds and without its deaths.

    64 of them at most, 16 KiB together; on a topic's record they are text, and a task has none. Raises `InvalidType`,
    `InvalidValue`.
    """
    if source_kind == "topic":
        return without_own(record_input.checked_headers(headers))
    kept = without_deaths(without_own(checked_json(headers)))
    if kept and source_kind == KIND:
        raise InvalidValue("a task has no headers", pointer="/headers")
    if len(kept) > MAX_HEADERS:
        raise InvalidValue(f"{len(kept)} headers are more than {MAX_HEADERS}", pointer="/headers")
    size = size_of(kept)
    if size > MAX_HEADER_BYTES:
        raise InvalidValue(f"the headers have {size} bytes; {MAX_HEADER_BYTES} are allowed", pointer="/headers")
    return kept


def checked_json(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers, if they are a mapping of text to values that JSON has. Raises `InvalidType`, `InvalidValue`."""
    if not isinstance(headers, Mapping) or not all(isinstance(name, str) for name in headers):
        raise InvalidType(f"headers are a mapping of text to JSON values, not {shown(headers)}", pointer="/headers")
    try:
        return decoded(record_input.encode_json(dict(headers)))
    except UnencodableValue as error:
        raise InvalidValue(f"a header cannot be kept: {error.detail}", pointer="/headers") from error
