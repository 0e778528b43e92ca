"""Which failures are one and the same: a digest over where something failed and how.

Two failures share a fingerprint when source, consumer, handler, exception class and innermost own frame are the same,
and their messages too once numbers, quoted parts and the like are taken out. Line numbers do not count, so that a
deployment does not divide a failure group. Pure. A change to any rule here needs a new `VERSION`.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import NamedTuple

from brokers.failure import CUT, Failure, storable

VERSION = 1
MAX_TEXT = 500
"""Characters of a frame and of a stripped message."""

_STRIPPED = (
    (re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"), "<email>"),
    (re.compile(r"(?<![0-9a-zA-Z])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9a-zA-Z])"), "<uuid>"),
    (re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?)?"), "<time>"),
    (re.compile(r"(?<![\w:])\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?(?![\w:])"), "<time>"),
    (re.compile(r"(?<![\w:.])(?=[0-9a-fA-F:]*[0-9a-fA-F])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:])"), "<ip>"),
    (re.compile(r"(?<!\w)0[xX][0-9a-fA-F]+"), "#"),
    (re.compile(r"(?:(?<![\w)\]])[+-])?\d[\d_]*(?:[.,]\d+)*[eE][+-]\d+"), "#"),
    (re.compile(r"(?<![0-9a-zA-Z])(?<!\d[.,])(?=[0-9]*[a-fA-F])[0-9a-fA-F]{8,}(?![0-9a-zA-Z])"), "#"),
    (re.compile(r"(?:(?<![\w)\]])[+-])?\d[\d_]*(?:[.,]\d+)*(?:[eE][+-]?\d+)?"), "#"),
    (re.compile(r"\s+"), " "),
    (re.compile(r"(#|'\*')(?:, ?\1)+"), r"\1"),
)
_OPENING = re.compile("(?<!\\w)(?:[bBrRuUfF]{1,2}(?=['\"]))?(['\"`\u201c\u2018\u00ab])")
_CLOSING = {
    "'": re.compile(r"(?<!\\)'(?!\w)"),
    '"': re.compile(r'(?<!\\)"'),
    "`": re.compile("[`'](?!\\w)"),
    "\u201c": re.compile("\u201d"),
    "\u2018": re.compile("\u2019(?!\\w)"),
    "\u00ab": re.compile("\u00bb"),
}
_QUOTED = "'*'"


class Fingerprint(NamedTuple):
    """A failure's digest (64 hexadecimal digits), and what went into it beside the names."""

    digest: str
    version: int
    frame: str
    """The innermost own frame, `module:function`; empty when there is none."""
    message: str
    """Stripped."""


def of(source_kind: str, source: str, group: str, handler: str, failure: Failure | None, reason: str) -> Fingerprint:
    """The fingerprint of what was given up; `reason` stands for the failure where there was none."""
    frame = message = ""
    what = f"reason {reason}"
    if failure is not None:
        what, frame, message = f"class {failure.exception_class}", innermost_own(failure), stripped(failure.message)
    parts = [VERSION, source_kind, source, group, handler, what, frame, message]
    return Fingerprint(hashlib.sha256(json.dumps(parts).encode()).hexdigest(), VERSION, frame, message)


def innermost_own(failure: Failure) -> str:
    """Where in the application's own code it failed, `module:function`; empty when it was not there at all."""
    own = next((frame for frame in reversed(failure.frames) if frame.own), None)
    return "" if own is None else storable(f"{own.module}:{own.function}", 4 * MAX_TEXT)[:MAX_TEXT]


def stripped(message: str) -> str:
    """A message without what differs from one failure to the next; at most 500 characters in one line."""
    text = _without_quoted_parts(message)
    for pattern, placeholder in _STRIPPED:
        text = pattern.sub(placeholder, text)
    return text.strip()[:MAX_TEXT]


def _without_quoted_parts(text: str) -> str:
    """Takes out what stands in quotes; an apostrophe is none, and a quote that the end cut off goes on to there."""
    parts: list[str] = []
    unclosed: set[str] = set()
    start = 0
    for found in _OPENING.finditer(text):
        quote = found[1]
        if found.start() < start or quote in unclosed:
            continue
        end = _CLOSING[quote].search(text, found.end())
        if end is None and not text.endswith(CUT):
            unclosed.add(quote)
            continue
        parts += (text[start : found.start()], _QUOTED)
        start = len(text) if end is None else end.end()
    return "".join(parts) + text[start:]
