"""What is refused in JSON text before or after it is decoded: encoding, nesting, numbers.

The parts of `strict_json` that look at bytes alone. Each check first proves by a few passes of C code that
nothing is wrong, and looks exactly only where that proof fails; all are linear in the text.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate
from typing import NoReturn

import msgspec

from brokers.errors import EmptyBody, InvalidUnicode, JsonNumber, JsonTooDeep, MalformedJson, shown

MAX_DEPTH = 64
MAX_DIGITS = 100

_any = msgspec.json.Decoder()

# -- text ------------------------------------------------------------------------------------------

_PAIRED = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+"
)
"""As far as every surrogate escape is half of a pair; an escaped backslash is consumed as one unit."""


def check_text(body: bytes) -> None:
    """Refuse what is not UTF-8 without a byte order mark, and half surrogate pairs written as escapes.

    Raises:
        EmptyBody: nothing but white space.
        MalformedJson: not UTF-8 (with the position), or a byte order mark.
        InvalidUnicode: half of a surrogate pair, with its position.
    """
    if not body or body.isspace():
        raise EmptyBody("the body is empty: JSON was expected")
    if not body.isascii():
        if body.startswith(b"\xef\xbb\xbf"):
            raise MalformedJson("the body begins with a byte order mark: send UTF-8 without one")
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise MalformedJson(f"the body is not UTF-8 at byte {error.start}: {error.reason}") from None
    if b"\\" in body and (b"\\ud" in body or b"\\uD" in body):
        _check_surrogates(body)


def _check_surrogates(body: bytes) -> None:
    match = _PAIRED.match(body)
    end = match.end() if match else 0
    if body.startswith(b"\\u", end):
        escape = shown(body[end : end + 6].decode("ascii", "replace"))
        raise InvalidUnicode(f"the escape {escape} at byte {end} is half of a surrogate pair")


# -- depth -----------------------------------------------------------------------------------------

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+', re.DOTALL)
"""A string; or all from an opening quote on, so that no body makes the search start over at every quote."""
_STEPS = bytes.maketrans(b"[]{}", b"\x01\xff\x01\xff")  # +1 and -1 as signed bytes
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_OPENING_KIND = bytes.maketrans(b"[", b"{")
_NOT_OPENINGS = bytes(sorted(set(range(256)) - set(b"[{\0")))


def check_depth(raw: bytes, limit: int = MAX_DEPTH) -> None:
    """Refuse arrays and objects nested deeper than `limit` levels; brackets inside strings do not count.

    Raises:
        JsonTooDeep
    """
    if len(raw) <= limit or raw.count(b"[") + raw.count(b"{") <= limit:
        return
    brackets = _STRING.sub(b"", raw).translate(_STEPS, _NOT_BRACKETS)
    left = brackets
    for _ in range(limit):  # each round takes the innermost level away
        left = left.replace(b"\x01\xff", b"")
        if not left:
            return
    if max(accumulate(array("b", brackets)), default=0) > limit:
        refuse_depth(limit)


def check_depths(joined: bytes, limit: int = MAX_DEPTH) -> None:
    """`check_depth` for each of many values, joined by zero bytes, which no JSON text holds.

    Raises:
        JsonTooDeep
    """
    openings = joined.translate(_OPENING_KIND, _NOT_OPENINGS)
    if b"{" * (limit + 1) in openings:
        for raw in joined.split(b"\0"):
            check_depth(raw, limit)


def refuse_depth(limit: int) -> NoReturn:
    """Raise JsonTooDeep; also for the decoder's own RecursionError."""
    raise JsonTooDeep(f"arrays and objects are nested deeper than {limit} levels") from None


# -- numbers ---------------------------------------------------------------------------------------

_DIGIT_KIND = bytes.maketrans(b"123456789E", b"000000000e")
_NOT_NUMERIC = bytes(sorted(set(range(256)) - set(b'0123456789eE+-,"\0')))
_OVERFLOWS = (b"0e000", b"0e+000")
"""No number of at most 100 digits leaves the range of a double with an exponent of two."""
_LONG_PART = b"0" * (MAX_DIGITS // 3 + 1)
"""Before the point, behind it, and in the exponent: one part of a longer number has as many digits."""
_WORTH_SHRINKING = 1024
"""Bytes from which on two passes, over the text and over a third of it, are quicker than one."""
_NUMERIC = re.compile(rb"[-+.0-9eE]*+")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?")
_STRING_OR_NUMBER = re.compile(_STRING.pattern + rb"|([-0-9][-+.0-9eE]*+)", re.DOTALL)
_BEFORE_NUMBER = b" \t\r\n:,[\0"
_AFTER_NUMBER = b" \t\r\n,]}\0"


def check_numbers(raw: bytes) -> None:
    """Refuse numbers that not every client can read back: over 100 digits, or beyond the range of a double.

    `raw` is one JSON text, or several joined by zero bytes. More precision than a double has is let through:
    such a number is stored and returned as it was written.

    Raises:
        JsonNumber: with the number's beginning and position.
    """
    if len(raw) > _WORTH_SHRINKING and not _may_be_too_large(raw.translate(_DIGIT_KIND, _NOT_NUMERIC)):
        return
    kinds = raw.translate(_DIGIT_KIND)
    if not _may_be_too_large(kinds):
        return
    for needle in (*_OVERFLOWS, _LONG_PART):
        if _any_suspect(raw, kinds, needle):
            _scan_numbers(raw)
            return


def _may_be_too_large(kinds: bytes) -> bool:
    return _OVERFLOWS[0] in kinds or _LONG_PART in kinds or (b"+" in kinds and _OVERFLOWS[1] in kinds)


def _any_suspect(raw: bytes, kinds: bytes, needle: bytes) -> bool:
    """Whether a number too large stands where `needle` is found, unless plainly inside of a string."""
    if needle is _OVERFLOWS[1] and b"+" not in raw:
        return False
    end = 0
    found = kinds.find(needle)
    while found >= 0:
        before = end
        match = _NUMERIC.match(raw, found)
        end = match.end() if match else found + 1
        if end == len(raw) or raw[end] in _AFTER_NUMBER:
            start = before + len(raw[before:found].rstrip(b"-+.0123456789eE"))
            if (start == 0 or raw[start - 1] in _BEFORE_NUMBER) and _is_too_large(raw[start:end]):
                return True
        found = kinds.find(needle, end)
    return False


def _scan_numbers(raw: bytes) -> None:
    for match in _STRING_OR_NUMBER.finditer(raw):
        number = match.group(1)
        if number is not None and _is_too_large(number):
            raise JsonNumber(
                f"the number {shown(number.decode())} at byte {match.start()} has more than"
                f" {MAX_DIGITS} digits or is beyond the range of a double"
            )


def _is_too_large(number: bytes) -> bool:
    if not _NUMBER.fullmatch(number):
        return False  # not JSON, which the decoder says; or within a string
    if len(number) > MAX_DIGITS and sum(map(number.count, b"0123456789")) > MAX_DIGITS:
        return True
    try:
        _any.decode(number)
    except msgspec.DecodeError:
        return True
    return False
