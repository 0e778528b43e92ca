"""Key, value and headers of a dead letter's revision, as its table has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

_decode_headers = msgspec.json.Decoder(dict[str, str]).decode


class Body(NamedTuple):
    """Bytes as they were published; `encoding` as `Record.encoding`."""

    key: bytes | None
    value: bytes | None
    encoding: int
    headers: dict[str, str]


EMPTY = Body(None, None, 0, {})


def body_of(row: Sequence[Any]) -> Body:
    """The body of a row of key, value, encoding and headers."""
    key, value, encoding, headers = row
    return Body(
        None if key is None else bytes(key),
        None if value is None else bytes(value),
        encoding,
        _decode_headers(bytes(headers)) if headers else {},
    )
