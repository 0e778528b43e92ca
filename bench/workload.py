"""The records that every measurement writes: 10-byte keys and 100-byte values, as JSON or as bytes.

The same sizes go to Waystation, to the bare statements and to Kafka. Values differ from record to record, so
that nothing is measured on one cached object.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

KEY_BYTES = 10
VALUE_BYTES = 100
BATCH_SIZES = (1, 10, 100, 1000)
CLIENT_COUNTS = (1, 8, 32)

_FILLER = "abcdefghijklmnopqrstuvwxyz0123456789" * 3


def key(number: int) -> str:
    """The key of record `number`, ten characters."""
    return f"k{number % 1_000_000_000:09d}"


def json_value(number: int) -> dict[str, Any]:
    """The value of record `number`: a small object whose compact JSON is 100 bytes."""
    value = {"number": 1_000_000_000 + number % 1_000_000_000, "text": ""}
    room = VALUE_BYTES - len(json.dumps(value, separators=(",", ":")))
    value["text"] = _FILLER[:room]
    return value


def bytes_value(number: int) -> bytes:
    """The same value as the JSON text that a publisher would send, 100 bytes."""
    return json.dumps(json_value(number), separators=(",", ":")).encode()


@cache
def pairs(count: int) -> tuple[tuple[bytes, bytes], ...]:
    """`count` keys and values as bytes."""
    return tuple((key(number).encode(), bytes_value(number)) for number in range(count))


def json_records(count: int) -> list[dict[str, Any]]:
    """`count` records as a user writes them for `publish_many`, values as Python objects."""
    return [{"key": key(number), "value": json_value(number)} for number in range(count)]


def bytes_records(count: int) -> list[dict[str, Any]]:
    """`count` records for `publish_many` whose values are bytes."""
    return [{"key": key(number), "value": bytes_value(number)} for number in range(count)]


def request_body(count: int, first: int = 0) -> bytes:
    """The JSON body that publishes `count` records over REST."""
    records = [{"key": key(number), "value": json_value(number)} for number in range(first, first + count)]
    return json.dumps({"records": records}, separators=(",", ":")).encode()
