"""Position tokens: where a subscription to a topic stands, as the text that a client hands back to resume.

A token is a STOMP `message-id` and an SSE `id`. It holds *next* offsets, so the holes of compaction and empty
partitions need no special case, and the topic's id, so that a topic made again under its name is not mistaken for the
old one. It opens nothing that permission on the topic does not, and so it is not signed. Pure: called by feeds and
their surfaces.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import NamedTuple

from brokers.errors import shown
from brokers.settings import MAX_PARTITIONS
from realtime.errors import ProtocolError

_VECTOR = 0
_ONE = 1
_END = 2**63
"""Topic ids and offsets lie below."""
_MAX_TEXT = 11_000
"""Characters of a token: a thousand partitions at 64 bits each."""


class Position(NamedTuple):
    """What a token says: the next offset of each partition, or of `partition` alone."""

    topic_id: int
    offsets: tuple[int, ...]
    partition: int | None = None


def encode(topic_id: int, offsets: Sequence[int]) -> str:
    """The token of a subscription to all partitions; `offsets[p]` is the next offset of partition p."""
    lowest = min(offsets)
    width = (max(offsets) - lowest).bit_length()
    packed = 0
    for offset in reversed(offsets):
        packed = packed << width | offset - lowest
    head = bytearray((_VECTOR,))
    for number in (topic_id, len(offsets), lowest, width):
        _write(head, number)
    return _text(head + packed.to_bytes((width * len(offsets) + 7) // 8, "little"))


def encode_one(topic_id: int, partition: int, offset: int) -> str:
    """The token of a subscription to one partition."""
    data = bytearray((_ONE,))
    for number in (topic_id, partition, offset):
        _write(data, number)
    return _text(data)


def decode(text: str) -> Position:
    """Reads a token. Raises `ProtocolError` (`invalid_offset`) for what neither `encode` nor `encode_one` wrote."""
    if not 0 < len(text) <= _MAX_TEXT or not text.isascii():
        raise _invalid(text)
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = _read(data)
    except (binascii.Error, IndexError, ValueError) as error:
        raise _invalid(text) from error
    again = (
        encode(found.topic_id, found.offsets)
        if found.partition is None
        else encode_one(found.topic_id, found.partition, found.offsets[0])
    )
    if again != text:
        raise _invalid(text)
    return found


def _read(data: bytes) -> Position:
    kind, at = data[0], 1
    topic_id, at = _number(data, at)
    if kind == _ONE:
        partition, at = _number(data, at)
        offset, at = _number(data, at)
        if partition >= MAX_PARTITIONS:
            raise ValueError("partition")
        return Position(topic_id, (offset,), partition)
    count, at = _number(data, at)
    lowest, at = _number(data, at)
    width, at = _number(data, at)
    if kind != _VECTOR or not 0 < count <= MAX_PARTITIONS or width > 63 or len(data) - at != (width * count + 7) // 8:
        raise ValueError("shape")
    packed = int.from_bytes(data[at:], "little")
    mask = (1 << width) - 1
    offsets = tuple(lowest + (packed >> width * n & mask) for n in range(count))
    if max(offsets) >= _END:
        raise ValueError("offset")
    return Position(topic_id, offsets)


def _write(data: bytearray, number: int) -> None:
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)


def _number(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift > 63:
            raise ValueError("varint")
    if number >= _END:
        raise ValueError("varint")
    return number, at


def _text(data: bytes | bytearray) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _invalid(text: str) -> ProtocolError:
    return ProtocolError(f"{shown(text)} is not a position of a subscription", "invalid_offset")
