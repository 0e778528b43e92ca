"""What a SEND frame becomes: a record of a topic, or a broadcast. Pure but for the clock.

A body is stored as JSON when its `content-type` is JSON, or absent and it parses as JSON; else as bytes. Headers that
are STOMP's own go no further; all others go with the record or broadcast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from brokers import strict_json
from brokers.codec import Row
from brokers.errors import InvalidValue, Malformed, TooLarge
from brokers.record import JSON, RAW
from brokers.record_input import checked_headers, key_bytes
from brokers.settings import MAX_RECORD_BYTES
from realtime.errors import ProtocolError
from realtime.stomp.frame import Frame

CONTENT_TYPE: Final = "content-type"
JSON_TYPE: Final = "application/json"
BYTES_TYPE: Final = "application/octet-stream"
OF_FRAMES: Final = frozenset({"destination", "content-length", "receipt", "transaction"})
"""Headers of SEND that are STOMP's own."""
SET_BY_US: Final = frozenset({"message-id", "subscription", "ack"})
"""Headers of MESSAGE that no client may set."""
_OF_RECORDS: Final = OF_FRAMES | {"key", "partition", "offset", "timestamp"}


def is_json_type(content_type: str) -> bool:
    """Whether a media type is JSON's (RFC 6839, section 3.1)."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == JSON_TYPE or media_type.endswith("+json")


def stored(frame: Frame) -> tuple[bytes, int]:
    """The body and its encoding. Raises `Malformed` for what is said to be JSON and is not."""
    content_type = frame.headers.get(CONTENT_TYPE)
    if content_type is None:
        try:
            strict_json.loads(frame.body)
        except (Malformed, InvalidValue):
            return frame.body, RAW
        return frame.body, JSON
    if is_json_type(content_type):
        strict_json.loads(frame.body)
        return frame.body, JSON
    return frame.body, RAW


def of_record(frame: Frame) -> tuple[Row, int | None]:
    """A record and the partition that it asks for. JSON's null makes a tombstone, as over REST.

    Raises `ProtocolError`, `InvalidValue` and `Malformed`.
    """
    headers = frame.headers
    check(frame)
    others = {name: text for name, text in headers.items() if name not in _OF_RECORDS}
    body: bytes | None
    body, encoding = stored(frame)
    if encoding == JSON:
        others.pop(CONTENT_TYPE, None)
        if body.strip() == b"null":
            body, encoding = None, RAW
    partition = None
    if "partition" in headers:
        partition = strict_json.parse_integer(headers["partition"], pointer="/partition", minimum=0)
    return (0, key_bytes(headers.get("key")), body, encoding, checked_headers(others)), partition


def of_broadcast(frame: Frame) -> tuple[bytes, str, Mapping[str, str]]:
    """Body, content type and headers of a broadcast; raises `ProtocolError`, `TooLarge` and `InvalidValue`."""
    check(frame)
    if len(frame.body) > MAX_RECORD_BYTES:
        raise TooLarge(f"the broadcast has {len(frame.body)} bytes; {MAX_RECORD_BYTES} are allowed")
    others = {name: text for name, text in frame.headers.items() if name not in OF_FRAMES and name != CONTENT_TYPE}
    return frame.body, frame.headers.get(CONTENT_TYPE, ""), checked_headers(others)


def check(frame: Frame) -> None:
    """Raises `ProtocolError` for headers that only MESSAGE may have, as RabbitMQ does (HEADERS_NOT_ON_SEND)."""
    for name in SET_BY_US:
        if name in frame.headers:
            raise ProtocolError(f"{name} is not allowed on SEND", "invalid_header")
