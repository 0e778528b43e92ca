"""The frames of SockJS and the messages in them. Pure.

A server's frame is `o`, `h`, `a[...]` or `c[code,"reason"]`; a client sends an array of strings (sockjs-protocol,
Protocol and framing).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

import msgspec

from realtime.errors import ProtocolError
from realtime.sockjs import text_bodies

OPEN: Final = b"o"
HEART_BEAT: Final = b"h"
GO_AWAY: Final = (3000, "Go away!")
"""What clients of SockJS are told where a WebSocket is closed in good order."""
INTERRUPTED: Final = (1002, "Connection interrupted")
STILL_OPEN: Final = (2010, "Another connection still open")
MAX_MESSAGES: Final = 100
"""Of one array from a client."""
_NORMAL: Final = 1000

_decoder = msgspec.json.Decoder(list[str] | str)


class BrokenJson(ProtocolError):
    """What the client sent is no JSON."""


def json_string(payload: bytes) -> bytes:
    """A payload as a JSON string in ASCII, as browsers mangle others (sockjs-protocol, JSON encoding)."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = text_bodies.as_text(payload)
    return json.dumps(text).encode("ascii")


def array(strings: Iterable[bytes]) -> bytes:
    """The frame that brings these messages, each from `json_string`."""
    return b"a[%b]" % b",".join(strings)


def message(payload: bytes) -> bytes:
    """The frame that brings this payload alone."""
    return b"a[%b]" % json_string(payload)


def close(code: int, reason: str) -> bytes:
    """The frame that says why nothing comes any more; in good order (1000) it is `GO_AWAY`."""
    if code == _NORMAL:
        code, reason = GO_AWAY
    return b"c[%d,%b]" % (code, json.dumps(reason).encode("ascii"))


def messages(body: bytes) -> list[bytes]:
    """What a client sent: an array of strings, or one string over a WebSocket.

    Raises: BrokenJson; ProtocolError (`malformed_payload`) for other JSON, and for more than `MAX_MESSAGES`.
    """
    try:
        found = _decoder.decode(body)
        encoded = [each.encode() for each in ([found] if isinstance(found, str) else found)]
    except msgspec.ValidationError as error:
        raise ProtocolError("send an array of strings", "malformed_payload", close_code=INTERRUPTED[0]) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BrokenJson("Broken JSON encoding.", "malformed_payload", close_code=INTERRUPTED[0]) from error
    if len(encoded) > MAX_MESSAGES:
        raise ProtocolError(
            f"an array has at most {MAX_MESSAGES} messages", "malformed_payload", close_code=INTERRUPTED[0]
        )
    return encoded
