"""The arguments of durable calls: what JSON holds exactly, within bounds, and nothing else. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from inspect import Signature
from typing import Any, Final

from brokers.errors import shown
from brokers.json_checks import MAX_DEPTH, MAX_DIGITS
from scheduling.durable.errors import ArgumentsTooLarge, InvalidArguments

MAX_BYTES: Final = 256 * 1024
"""Bytes of a call's arguments as JSON."""
_LARGEST: Final = 10**MAX_DIGITS
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def as_json(function: str, signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """JSON text `[args, kwargs]` of a call.

    Tuples become lists; text may hold neither NUL nor half of a surrogate pair. Raises `InvalidArguments`, which names
    the argument, and `ArgumentsTooLarge`.
    """
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise InvalidArguments(f"{function} cannot be called so: {error}") from error
    for name, value in given.items():
        _check(f"the argument {name!r} of {function}", value, 0)
    text = json.dumps([list(args), dict(kwargs)], ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    size = len(text.encode())
    if size > MAX_BYTES:
        raise ArgumentsTooLarge(
            f"the arguments of {function} are {size:,} bytes of JSON, more than {MAX_BYTES:,}: store them, and give the"
            f" call the key"
        )
    return text


def _check(where: str, value: Any, depth: int) -> None:
    if depth > MAX_DEPTH - 4:  # the call's own lists and objects are around it
        raise InvalidArguments(f"{where} is nested too deeply, or holds itself")
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            raise InvalidArguments(f"{where} holds NUL or half of a surrogate pair: {shown(value)}")
    elif isinstance(value, int):
        if not -_LARGEST < value < _LARGEST:
            raise InvalidArguments(f"{where} holds a number of more than {MAX_DIGITS} digits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidArguments(f"{where} holds {value}, which JSON cannot hold")
    elif isinstance(value, list | tuple):
        for each in value:
            _check(where, each, depth + 1)
    elif isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                raise InvalidArguments(f"{where} holds an object with the key {shown(key)}, which is no text")
            _check(where, key, depth + 1)
            _check(where, each, depth + 1)
    else:
        raise InvalidArguments(
            f"{where} holds a {type(value).__qualname__}, which JSON cannot hold: give text, numbers, lists and dicts"
        )
