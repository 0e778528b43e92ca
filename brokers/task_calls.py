"""What a dead letter of a task holds: a call's arguments as JSON, `{"args": [...], "kwargs": {...}}`. Pure.

Called by whoever edits or replays dead letters, and by whoever gives a task up or does it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from brokers.errors import BrokerError, InvalidValue
from brokers.record import JSON

KIND: Final = "task"
"""The kind of source of these dead letters."""
INVALID: Final = "invalid_arguments"
"""Why an item of a replay is skipped whose value is no call."""
_FIELDS: Final = {"args", "kwargs"}


def value_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """The arguments as a dead letter holds them."""
    return msgspec.json.encode({"args": args, "kwargs": kwargs})


def arguments(value: bytes | None, encoding: int) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that a value holds. Raises `InvalidValue` for any other value."""
    try:
        found = None if value is None or encoding != JSON else msgspec.json.decode(value)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"the value is not JSON: {error}", pointer="/value") from error
    if not isinstance(found, dict) or set(found) != _FIELDS:
        raise InvalidValue('a task is called with {"args": [...], "kwargs": {...}}, and nothing else', pointer="/value")
    if not isinstance(found["args"], list) or not isinstance(found["kwargs"], dict):
        raise InvalidValue('a task\'s "args" are a list and its "kwargs" an object', pointer="/value")
    return found["args"], found["kwargs"]


def is_call(value: bytes | None, encoding: int) -> bool:
    """Whether a value holds arguments."""
    try:
        arguments(value, encoding)
    except BrokerError:
        return False
    return True


def check_edit(source_kind: str, value: bytes | None, encoding: int) -> None:
    """Raises `InvalidValue` for the new value of a task's dead letter that is no call; any other may hold anything."""
    if source_kind == KIND:
        arguments(value, encoding)
