"""Key, value and headers of a dead letter's revision, as its table has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from brokers.dead_letter_headers import decoded


class Body(NamedTuple):
    """Bytes as they were published; `encoding` as `Record.encoding`."""

    key: bytes | None
    value: bytes | None
    encoding: int
    headers: dict[str, Any]
    """Text, but on a message any JSON value."""


EMPTY = Body(None, None, 0, {})


def body_of(row: Sequence[Any]) -> Body:
    """The body of a row of key, value, encoding and headers."""
    key, value, encoding, headers = row
    return Body(
        None if key is None else bytes(key),
        None if value is None else bytes(value),
        encoding,
        decoded(bytes(headers or b"")),
    )
