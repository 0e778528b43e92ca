"""The one JSON reader of every surface: what passes here, every JSON library reads back alike.

msgspec decodes; this adds what it leaves open: UTF-8 inside of `Raw`, duplicate keys, numbers no client can
hold, a fixed limit of nesting, and errors of ours with a JSON pointer. `decode` and `loads` read one body; a
`BatchReader` bodies of up to a thousand records whose values stay the bytes that came in. The callers check a
body's length before they read it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast

import msgspec
from msgspec import Raw, inspect

from brokers.errors import (
    BrokerError,
    InvalidType,
    InvalidValue,
    JsonNumber,
    MalformedJson,
    UnknownField,
    shown,
)
from brokers.json_checks import (
    MAX_DEPTH,
    MAX_DIGITS,
    check_depth,
    check_depths,
    check_numbers,
    check_text,
    refuse_depth,
)
from brokers.json_duplicates import (
    accounts_for,
    check_duplicate_keys,
    escaped,
    keeps_its_form,
    omits_defaults,
    spelling_out,
)

__all__ = [
    "ABSENT",
    "MAX_DEPTH",
    "MAX_DIGITS",
    "BatchReader",
    "check_depth",
    "check_duplicate_keys",
    "check_numbers",
    "check_text",
    "decode",
    "loads",
    "parse_integer",
]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

T = TypeVar("T")
BodyT = TypeVar("BodyT", bound=msgspec.Struct)
ItemT = TypeVar("ItemT", bound=msgspec.Struct)

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines

# -- whole bodies ----------------------------------------------------------------------------------

_PLACE = re.compile(r"(?P<what>.*) - at `\$(?P<path>(?:\.[^.\[\]`]+|\[[0-9]+\]|\[\.\.\.\])*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]`]+)|\[([0-9]+)\]")
_NAMED = re.compile(r"Object (?P<what>contains unknown|missing required) field `(?P<name>.*)`", re.DOTALL)
_POSITION = re.compile(r"\(byte ([0-9]+)\)")


def decode(body: bytes, type: type[T], *, limit: int = MAX_DEPTH) -> T:  # noqa: A002 - msgspec's own word
    """Read a control-plane body: strict everywhere, duplicate keys inside Raw members refused too.

    `limit` is the deepest nesting of the whole body, in levels. Unknown fields are refused by a Struct's
    `forbid_unknown_fields`, ranges by its `msgspec.Meta`; an `int` field without one takes integers of any
    size.

    Raises:
        EmptyBody, MalformedJson, InvalidUnicode, JsonTooDeep, JsonNumber, DuplicateKey: it cannot be read.
        UnknownField, InvalidType, InvalidValue: it can, and is not what was asked for; with a JSON pointer.
    """
    check_text(body)
    check_depth(body, limit)
    check_numbers(body)
    typed: T = _decoded(_decoder(cast("Hashable", type)), body, limit)
    check_duplicate_keys(body)
    return typed


def loads(body: bytes) -> Any:
    """Read any JSON text as Python values, as strictly as `decode`."""
    return decode(body, object)


@lru_cache(maxsize=256)
def _decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(wanted)


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes, limit: int, pointer: str = "") -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), pointer) from None
    except msgspec.DecodeError as error:
        raise _malformed(str(error), body, pointer) from None
    except RecursionError:
        refuse_depth(limit)


def _malformed(message: str, body: bytes, pointer: str) -> BrokerError:
    at = f" in item {pointer[1:]}" if pointer else ""
    position = _POSITION.search(message)
    if position and body.startswith((b"NaN", b"Infinity"), int(position.group(1))):
        return JsonNumber(f"JSON has no NaN and no Infinity: byte {position.group(1)}{at}")
    return MalformedJson(f"the body is not JSON{at}: {message}")


def _invalid(message: str, pointer: str) -> BrokerError:
    """Our error for one of msgspec's validation errors, which end with "- at `$.records[0].key`"."""
    place = _PLACE.fullmatch(message)
    if place:
        message = place["what"]
        pointer += "".join("/" + (name or index) for name, index in _STEP.findall(place["path"]))
    named = _NAMED.fullmatch(message)
    if named and named["what"] == "contains unknown":
        return UnknownField(
            f"the field {shown(named['name'])} does not exist", pointer=f"{pointer}/{escaped(named['name'])}"
        )
    if named:
        return InvalidValue(f"the field `{named['name']}` is required", pointer=f"{pointer}/{named['name']}")
    detail = f"{pointer or 'the body'}: {_clipped(message)}"
    if message.endswith("out of range"):
        return JsonNumber(detail)
    if message.startswith("Expected `") and "`, got `" in message:
        return InvalidType(detail, pointer=pointer)
    return InvalidValue(detail, pointer=pointer)


def _clipped(message: str) -> str:
    """Some of msgspec's messages quote the value."""
    text = message[:1].lower() + message[1:160]
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


# -- batches ---------------------------------------------------------------------------------------

ABSENT = Raw()
"""The default of an optional Raw field: no JSON value is zero bytes long."""


class BatchReader(Generic[BodyT, ItemT]):
    """Reads bodies of many items of which each has one opaque value, kept as the bytes that came.

    Strict on all but the inside of the values: there, duplicate keys are the publisher's business, and the
    limit of nesting counts from the value. Build one for each type of body and keep it; it has no state.
    """

    def __init__(
        self,
        body_type: type[BodyT],
        item_type: type[ItemT],
        *,
        items: Callable[[BodyT], list[ItemT]],
        values: Callable[[list[ItemT]], list[Raw]],
    ) -> None:
        """`items` takes the items out of a body, `values` each one's Raw, which is ABSENT when optional.

        `omit_defaults=True` on both Structs makes reading bodies that spell out no defaults faster by half.
        """
        self._body = msgspec.json.Decoder(body_type)
        self._item = msgspec.json.Decoder(item_type)
        self._items = items
        self._values = values
        self._comparable = keeps_its_form(inspect.type_info(body_type))
        self._omits = self._comparable and omits_defaults(body_type) and omits_defaults(item_type)
        twin = spelling_out(item_type, {})
        self._item_twin = msgspec.json.Decoder(twin)
        self._body_twin = msgspec.json.Decoder(spelling_out(body_type, {list[item_type]: list[twin]}))  # type: ignore[valid-type]

    def read(self, body: bytes) -> tuple[BodyT, list[bytes]]:
        """The body, and the bytes of each item's value in order (none of them for an ABSENT one).

        Raises:
            as `decode`.
        """
        check_text(body)
        typed = _decoded(self._body, body, MAX_DEPTH)
        if not (
            (self._omits and accounts_for(_encode(typed), body))
            or (self._comparable and accounts_for(_encode(self._body_twin.decode(body)), body))
        ):
            check_duplicate_keys(body, typed, opaque=True)
        return typed, self._opened(self._items(typed))

    def read_lines(self, body: bytes) -> tuple[list[ItemT], list[bytes]]:
        """The same for `application/x-ndjson`: one item a line, blank lines skipped.

        Pointers begin with the item's index.

        Raises:
            as `decode`.
        """
        check_text(body)
        lines = [line for line in body.split(b"\n") if line and not line.isspace()]
        items: list[ItemT] = []
        decode_item, append = self._item.decode, items.append
        try:
            for line in lines:
                append(decode_item(line))
        except (msgspec.DecodeError, RecursionError):
            append(_decoded(self._item, lines[len(items)], MAX_DEPTH, f"/{len(items)}"))
        if not (self._omits and accounts_for(_encode_lines(items), b"\n".join((*lines, b"")))):
            self._check_lines(lines, items)
        return items, self._opened(items)

    def _check_lines(self, lines: list[bytes], items: list[ItemT]) -> None:
        for index, (line, item) in enumerate(zip(lines, items, strict=True)):
            if not (self._comparable and accounts_for(_encode(self._item_twin.decode(line)), line)):
                check_duplicate_keys(line, item, opaque=True, pointer=f"/{index}")

    def _opened(self, items: list[ItemT]) -> list[bytes]:
        values = list(map(bytes, self._values(items)))
        joined = b"\0".join(values)
        if len(joined) > 2 * MAX_DEPTH and max(map(len, values)) > 2 * MAX_DEPTH:
            check_depths(joined)
        check_numbers(joined)
        return values


# -- query parameters ------------------------------------------------------------------------------

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")


def parse_integer(text: str, *, pointer: str = "", minimum: int = INT64_MIN, maximum: int = INT64_MAX) -> int:
    """The integer of a query parameter or path: plain ASCII decimal, from `minimum` to `maximum`.

    `pointer` names the parameter in the error.

    Raises:
        InvalidValue: `01`, `1_0`, `1.0`, `+1`, other scripts' digits, or out of range.
    """
    if not _INTEGER.fullmatch(text):
        raise InvalidValue(f"{shown(text)} is not a whole number in decimal digits", pointer=pointer)
    number = int(text)
    if not minimum <= number <= maximum:
        raise InvalidValue(f"{text} is not from {minimum} to {maximum}", pointer=pointer)
    return number
