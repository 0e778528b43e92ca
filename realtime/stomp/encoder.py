"""From frames to bytes, by the version agreed on. Pure.

CONNECT and CONNECTED are never escaped (STOMP 1.2, Value Encoding). What a version cannot write stays harmless: STOMP
1.0 has no escapes, so an end of line in a value becomes a space there, and a header whose name it could not carry is
left out. A NUL, which many clients take for the frame's end wherever it stands, becomes U+FFFD.
"""

from __future__ import annotations

import re
from typing import Final

from realtime.stomp.frame import WITH_BODY, Frame

_UNESCAPED: Final = frozenset({"CONNECT", "CONNECTED"})
_SPECIAL: Final = re.compile(r"[\\:\r\n\0]")
_PLAIN: Final = str.maketrans({"\r": " ", "\n": " ", "\0": "\ufffd"})
_ESCAPED_1_1: Final = str.maketrans({"\\": "\\\\", ":": "\\c", "\n": "\\n", "\r": " ", "\0": "\ufffd"})
_ESCAPED_1_2: Final = str.maketrans({"\\": "\\\\", ":": "\\c", "\n": "\\n", "\r": "\\r", "\0": "\ufffd"})
_TABLES: Final = {"1.0": _PLAIN, "1.1": _ESCAPED_1_1, "1.2": _ESCAPED_1_2}


def encode(frame: Frame, version: str) -> bytes:
    """The frame's bytes; `content-length` is written for what has a body (as Spring does), whatever the headers say."""
    version = "1.0" if frame.command in _UNESCAPED else version
    lines = [frame.command]
    lines += [header(name, value, version) for name, value in frame.headers.items() if name != "content-length"]
    body = frame.body
    if frame.command in WITH_BODY:
        lines.append(f"\ncontent-length:{len(body)}")
    lines.append("\n\n")
    return "".join(lines).encode("utf-8", "replace") + body + b"\0"


def header(name: str, value: str, version: str) -> str:
    """One header with the end of line before it; empty if the version has no way to write it."""
    if _SPECIAL.search(value):
        value = value.translate(_TABLES[version])
    if _SPECIAL.search(name):
        if version == "1.0":
            return ""
        name = name.translate(_TABLES[version])
    return f"\n{name}:{value}" if name else ""
