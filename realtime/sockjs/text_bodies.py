"""STOMP frames whose bodies are no text, for a transport that carries text alone. Pure.

SockJS has no binary messages, and a body that was mended into text would be longer than its `content-length`, which
takes the client out of step. Such a body goes as base64, under the header `body-encoding: base64`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Final

_LENGTH: Final = re.compile(rb"\ncontent-length:([0-9]+)")


def as_text(payload: bytes) -> str:
    """Whole frames of the server as text."""
    try:
        return b"".join(_textual(*frame) for frame in _frames(payload)).decode()
    except ValueError:  # no frames of ours
        return payload.decode("utf-8", "replace")


def _frames(payload: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Head and body of each frame; raises `ValueError` where one ends early."""
    position = 0
    while position < len(payload):
        start = payload.index(b"\n\n", position) + 2
        head = payload[position : start - 2]
        stated = _LENGTH.search(head)
        end = start + int(stated[1]) if stated else payload.index(b"\0", start)
        if payload[end : end + 1] != b"\0":
            raise ValueError("a frame ends before its NUL")
        yield head, payload[start:end]
        position = end + 1


def _textual(head: bytes, body: bytes) -> bytes:
    try:
        body.decode()
    except UnicodeDecodeError:
        command, _, headers = head.partition(b"\n")
        body = base64.b64encode(body)
        rest = _LENGTH.sub(b"", b"\n" + headers)
        head = b"%b\nbody-encoding:base64\ncontent-length:%d%b" % (command, len(body), rest)
    return b"%b\n\n%b\0" % (head, body)
