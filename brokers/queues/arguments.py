"""What exchanges, queues, bindings and policies may be declared with, and when two declarations are the same. Pure.

Borrowed from RabbitMQ: the checks of `rabbit_amqqueue:declare_args`, and the comparison that answers
`PRECONDITION_FAILED - inequivalent arg`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict

from brokers.errors import InvalidValue, PreconditionFailed, UnknownField, shown
from brokers.names import validate
from brokers.queues.declared import DELIVERY_LIMIT, OVERFLOW
from brokers.queues.routing import check_key
from brokers.settings import MAX_HEADER_BYTES, MAX_HEADERS

EXCHANGE_TYPES: Final = ("direct", "topic", "fanout", "headers")
OVERFLOWS: Final = ("drop-head", "reject-publish")
DEAD_LETTERS: Final = ("unrouted", "none")
MAX_MS: Final = 315_360_000_000
"""Ten years: the longest time that RabbitMQ's timers take."""
MAX_PRIORITY: Final = 255
_MAX_INT: Final = 2**31 - 1
_MAX_BIGINT: Final = 2**63 - 1
_MAX_DEPTH: Final = 16


class PolicySettings(TypedDict, total=False):
    """What a policy may set for many queues, and a queue for itself; None says nothing."""

    message_ttl_ms: int | None
    expires_ms: int | None
    max_length: int | None
    overflow: str | None
    dead_letter_exchange: str | None
    dead_letter_routing_key: str | None
    delivery_limit: int | None


class QueueSettings(PolicySettings, total=False):
    """What a queue may be declared with."""

    max_priority: int | None
    single_active_consumer: bool
    dead_letters: str


_Check = Callable[[str, Any], Any]


def _number(least: int, most: int) -> _Check:
    def check(name: str, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidValue(f"must be a whole number, not {shown(value)}", pointer=f"/{name}")
        if not least <= value <= most:
            raise InvalidValue(f"must be {least} to {most}, not {value}", pointer=f"/{name}")
        return value

    return check


def _one_of(*allowed: str) -> _Check:
    def check(name: str, value: Any) -> Any:
        if value not in allowed:
            raise InvalidValue(f"must be {' or '.join(allowed)}, not {shown(value)}", pointer=f"/{name}")
        return value

    return check


def _exchange_name(name: str, value: Any) -> Any:
    return value if value == "" else validate("exchange", value, pointer=f"/{name}")


def _routing_key(name: str, value: Any) -> Any:
    return check_key(value, pointer=f"/{name}")


def _boolean(name: str, value: Any) -> Any:
    if not isinstance(value, bool):
        raise InvalidValue(f"must be true or false, not {shown(value)}", pointer=f"/{name}")
    return value


_OF_POLICIES: Final[dict[str, _Check]] = {
    "message_ttl_ms": _number(0, MAX_MS),
    "expires_ms": _number(1, MAX_MS),
    "max_length": _number(0, _MAX_BIGINT),
    "overflow": _one_of(*OVERFLOWS),
    "dead_letter_exchange": _exchange_name,
    "dead_letter_routing_key": _routing_key,
    "delivery_limit": _number(-1, _MAX_INT),
}
_OF_QUEUES: Final[dict[str, _Check]] = {
    **_OF_POLICIES,
    "max_priority": _number(0, MAX_PRIORITY),
    "single_active_consumer": _boolean,
    "dead_letters": _one_of(*DEAD_LETTERS),
}
_DEFAULTS: Final[dict[str, Any]] = {
    "overflow": OVERFLOW,
    "delivery_limit": DELIVERY_LIMIT,
    "single_active_consumer": False,
    "dead_letters": "unrouted",
}
_NEVER_NULL: Final = ("single_active_consumer", "dead_letters")


def queue_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a queue, None where nothing is said. Raises `InvalidValue` and `UnknownField`."""
    found = _checked("queue", _OF_QUEUES, given)
    if found["dead_letter_routing_key"] is not None and found["dead_letter_exchange"] is None:
        raise InvalidValue("a dead_letter_routing_key needs a dead_letter_exchange", pointer="/dead_letter_routing_key")
    return found | {name: _DEFAULTS[name] for name in _NEVER_NULL if found[name] is None}


def policy_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a policy. Raises `InvalidValue`, also when it sets nothing, and `UnknownField`."""
    found = _checked("policy", _OF_POLICIES, given)
    if all(value is None for value in found.values()):
        raise InvalidValue(f"a policy sets one of {', '.join(_OF_POLICIES)} at least")
    return found


def _checked(kind: str, checks: Mapping[str, _Check], given: Mapping[str, Any]) -> dict[str, Any]:
    for name in given:
        if name not in checks:
            raise UnknownField(f"a {kind} has no setting {shown(name)}; it has {', '.join(checks)}")
    errors: list[tuple[str, str]] = []
    found: dict[str, Any] = dict.fromkeys(checks)
    for name, value in given.items():
        if value is None:
            continue
        try:
            found[name] = checks[name](name, value)
        except InvalidValue as error:
            errors += error.errors
    if errors:
        raise InvalidValue(f"the {kind}'s settings are not valid", errors=errors)
    return found


def exchange_settings(exchange_type: str, alternate_exchange: str | None) -> None:
    """Raises `InvalidValue` for a type that there is not, and `InvalidName` for a name that no exchange can have."""
    if exchange_type not in EXCHANGE_TYPES:
        raise InvalidValue(
            f"an exchange's type is {', '.join(EXCHANGE_TYPES)}, not {shown(exchange_type)}", pointer="/type"
        )
    if alternate_exchange is not None:
        validate("exchange", alternate_exchange, pointer="/alternate_exchange")


def same_or_refused(kind: str, name: str, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises `PreconditionFailed` unless both mean the same; saying a default and not saying it do."""
    errors = [(f"/{field}", what) for field, what in differences(there, wanted)]
    if errors:
        raise PreconditionFailed(
            f"{kind} {name} is declared differently: " + "; ".join(f"{where[1:]} {what}" for where, what in errors),
            errors=errors,
        )


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings that are not the same, each with what is wanted and what is there."""
    return [
        (field, f"is {_told(there[field])}, not {_told(value)}")
        for field, value in wanted.items()
        if _meant(field, value) != _meant(field, there[field])
    ]


def _meant(field: str, value: Any) -> Any:
    return _DEFAULTS.get(field) if value is None else value


def _told(value: Any) -> str:
    return json.dumps(value)


# -- arguments of bindings -----------------------------------------------------------------------------------------


def binding_arguments(arguments: Mapping[str, Any] | None) -> str:
    """A binding's arguments as JSON text with sorted names, by which two bindings are the same or not.

    Raises `InvalidValue` unless they are JSON values, few and short enough.
    """
    if not arguments:
        return "{}"
    if not isinstance(arguments, Mapping):
        raise InvalidValue(f"arguments are an object, not {shown(arguments)}", pointer="/arguments")
    if len(arguments) > MAX_HEADERS:
        raise InvalidValue(f"a binding has at most {MAX_HEADERS} arguments", pointer="/arguments")
    for name, value in arguments.items():
        _check_json(name, value, f"/arguments/{name}", 1)
    text = json.dumps(arguments, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidValue("an argument is not valid Unicode", pointer="/arguments") from error
    if size > MAX_HEADER_BYTES:
        raise InvalidValue(f"arguments have at most {MAX_HEADER_BYTES} bytes, not {size}", pointer="/arguments")
    return text


def _check_json(name: Any, value: Any, pointer: str, depth: int) -> None:
    if not isinstance(name, str):
        raise InvalidValue(f"an argument's name is text, not {shown(name)}", pointer="/arguments")
    if depth > _MAX_DEPTH:
        raise InvalidValue(f"arguments are nested at most {_MAX_DEPTH} levels deep", pointer=pointer)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise InvalidValue(f"{value} is not a JSON number", pointer=pointer)
    if isinstance(value, dict):
        for member, inner in value.items():
            _check_json(member, inner, pointer, depth + 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_json("", inner, pointer, depth + 1)
    elif value is not None and not isinstance(value, (str, int, float)):
        raise InvalidValue(f"an argument of type {type(value).__name__} is not JSON", pointer=pointer)
