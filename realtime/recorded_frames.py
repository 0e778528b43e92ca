"""What was written to a connection, read back into frames for people. Pure; called by `frame_recorder`.

It forgives what it cannot read: what it is given may be cut off, and only the beginning of a body is kept. A payload is
known by its first bytes: a WebSocket frame, what SockJS makes of a message, or STOMP itself.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from realtime.stomp.frame import SERVER_COMMANDS

SHOWN_BYTES: Final = 512
"""Of one body."""
MASKED: Final = "•••"
_SECRETS: Final = (
    "api-?key|auth|authorization|cookie|login|passcode|passwd|password|secret|session-?id|signature|ticket|token"
)
_SECRET_NAME: Final = re.compile(rf"(?:^|[-_.])(?:{_SECRETS})s?(?:$|[-_.])", re.IGNORECASE)
_SECRET_FIELD: Final = re.compile(
    rb'("(?:[^"\\]*[-_.])?(?:%b)s?(?:[-_.][^"\\]*)?"\s*:\s*)"(?:[^"\\]|\\.)*"?' % _SECRETS.encode(),
    re.IGNORECASE | re.DOTALL,
)
_READ_BYTES: Final = 4096
"""Of an event's data, in which secrets are looked for before it is cut."""
_WEBSOCKET: Final = (0x81, 0x82)
_LONGEST_ESCAPE: Final = 13
"""Characters of JSON, and one more, of which a cut may leave a part: two halves of a character beyond 16 bits."""
_COMMAND: Final = re.compile(rb"(?:%b)\n" % "|".join(sorted(SERVER_COMMANDS)).encode())
_ESCAPES: Final = re.compile(r"\\([cnr\\])")
_PLAIN: Final = {"c": ":", "n": "\n", "r": "\r", "\\": "\\"}


class RawFrame(NamedTuple):
    """A frame as it is on the wire, secrets and all."""

    command: str
    headers: dict[str, str]
    body: bytes
    """Its first bytes."""
    size: int
    """How many it has."""


class _Place(NamedTuple):
    """Where a frame is in a payload."""

    head: bytes
    body: bytes
    size: int


def is_secret(name: str) -> bool:
    """Whether a header of this name holds what nobody but its reader may know, such as `passcode`."""
    return _SECRET_NAME.search(name) is not None


def read(wrapped: bytes, protocol: str, *, most: int) -> list[RawFrame]:
    """The last frames of what was written over a connection of `protocol`; a heart-beat or a comment is none."""
    if protocol == "sse":
        return list(deque(_events(wrapped), maxlen=most))
    return [_stomp_frame(place) for place in deque(_places(_payload(wrapped)), maxlen=most)]


# -- what carries STOMP -----------------------------------------------------------------------------------------------


def _payload(wrapped: bytes) -> bytes:
    if wrapped[:1] and wrapped[0] in _WEBSOCKET and len(wrapped) > 1:
        length = wrapped[1]
        wrapped = wrapped[{126: 4, 127: 10}.get(length, 2) :]
    if wrapped.startswith((b'a["', b'"')):
        return _of_sockjs(wrapped.removeprefix(b"a["))
    return wrapped


def _of_sockjs(text: bytes) -> bytes:
    """The first string of what SockJS writes; of one that was cut off what is left of it."""
    whole = (text, text.removesuffix(b"]"))
    cut = (text[: len(text) - lost] + b'"' for lost in range(_LONGEST_ESCAPE))
    for candidate in (*whole, *cut):
        try:
            return msgspec.json.decode(candidate, type=str).encode("utf-8", "replace")
        except (msgspec.DecodeError, UnicodeError):
            continue
    return b""


# -- STOMP ------------------------------------------------------------------------------------------------------------


def _places(payload: bytes) -> Iterator[_Place]:
    at = 0
    while True:
        while at < len(payload) and payload[at] in b"\r\n\0":
            at += 1
        if at == len(payload):
            return
        if _COMMAND.match(payload, at) is None:
            return
        end = payload.find(b"\n\n", at)
        if end < 0:
            yield _Place(payload[at:], b"", 0)
            return
        head, start = payload[at:end], end + 2
        length = _length(head)
        if length is None:
            nul = payload.find(0, start)
            length = (len(payload) if nul < 0 else nul) - start
        yield _Place(head, payload[start : start + min(length, SHOWN_BYTES)], length)
        at = min(start + length + 1, len(payload))


def _length(head: bytes) -> int | None:
    found = re.search(rb"\ncontent-length:([0-9]{1,10})(?:\r?\n|\Z)", head)
    return None if found is None else int(found[1])


def _stomp_frame(place: _Place) -> RawFrame:
    command, *lines = place.head.decode("utf-8", "replace").split("\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(_unescaped(name), _unescaped(value))
    return RawFrame(command, headers, place.body, place.size)


def _unescaped(text: str) -> str:
    return _ESCAPES.sub(lambda found: _PLAIN[found[1]], text) if "\\" in text else text


# -- server-sent events -----------------------------------------------------------------------------------------------


def _events(data: bytes) -> Iterator[RawFrame]:
    for block in data.split(b"\n\n"):
        lines = block.split(b"\n")
        name = _field(lines, b"event: ")
        if name is None:
            continue
        found = _field(lines, b"id: ")
        headers = {} if found is None else {"id": found.decode("utf-8", "replace")}
        body = b"\n".join(line[6:] for line in lines if line.startswith(b"data: "))
        shown = _SECRET_FIELD.sub(rb'\1"%b"' % MASKED.encode(), body[:_READ_BYTES])[:SHOWN_BYTES]
        yield RawFrame(name.decode("utf-8", "replace"), headers, shown, len(body))


def _field(lines: Sequence[bytes], prefix: bytes) -> bytes | None:
    return next((line[len(prefix) :] for line in lines if line.startswith(prefix)), None)
