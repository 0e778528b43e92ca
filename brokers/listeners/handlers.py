"""What is declared of a handler, whatever it listens to: the words, the checks, and the registry of this process.

`registration` says it of topics, `queue_registration` of queues. Everything that can be wrong with a handler or its
options is refused at import, rather than by a worker at its first record.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from brokers.errors import InvalidType, InvalidValue, shown
from brokers.queues.message import Message
from brokers.record import Record
from brokers.retries.backoff import BackOff
from brokers.retries.decision import Policy

ACK_MODES: Final = ("batch", "record")
SAVEPOINTS: Final = ("lazy", "eager")
MAX_CONCURRENCY: Final = 64
"""Threads of one listener in one worker process."""
MAX_NAME_LENGTH: Final = 200
"""Characters of a handler's name: an instance id, which ends with slot and thread, has 249."""

Item = Record | Message
"""What a handler is called with: a record of a topic, or a message of a queue."""
Function = TypeVar("Function", bound=Callable[..., Any])
Exceptions = type[BaseException] | Iterable[type[BaseException]]


class BatchListenerFailed(Exception):
    """Raised by a batch handler to say which record or message failed, by its index in the list or as itself.

    Those before it are handled and committed, it alone is retried or given up, then those after it come again (Spring's
    BatchListenerFailedException). The handler is called again with the records before it, its first call being rolled
    back with all that it did. `cause` is what went wrong, by default the exception that this one is raised from.
    """

    def __init__(self, failed: int | Item, cause: BaseException | None = None) -> None:
        if isinstance(failed, bool) or not isinstance(failed, int | Record | Message):
            raise InvalidType(f"what failed is named by its index or by itself, not by {shown(failed)}")
        place = f"at index {failed}" if isinstance(failed, int) else f"{failed!r}"
        noun = "message" if isinstance(failed, Message) else "record"
        super().__init__(f"the {noun} {place} could not be handled")
        self.failed = failed
        self.cause = cause

    def index_in(self, items: Sequence[Item]) -> int | None:
        """Which of them failed; None when it is none of them."""
        if isinstance(self.failed, int):
            return self.failed if 0 <= self.failed < len(items) else None
        return next((index for index, item in enumerate(items) if item is self.failed), None)

    def reason(self) -> BaseException:
        """What went wrong with the record."""
        return self.cause or self.__cause__ or self


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function and how it is to be called."""

    name: str
    function: Callable[[Any], Any]
    """What is called: of an idempotent handler the function inside, because the worker claims the keys."""
    is_async: bool
    key: Callable[[Any], object] | None
    """What `@idempotent` calls a record."""
    consumer: str
    """Under which name keys are processed."""
    concurrency: int
    policy: Policy
    batch: bool
    ack_mode: str
    savepoint: str

    def options(self) -> tuple[object, ...]:
        """All but the functions: what two declarations under one name must agree on."""
        return type(self), self.consumer, self.concurrency, self.policy, self.batch, self.ack_mode, self.savepoint


_handlers: dict[str, Handler] = {}


def register(handler: Handler) -> None:
    """Adds a handler to the registry; raises `InvalidValue` for a second, different declaration of its name."""
    before = _handlers.get(handler.name)
    if before is not None and before.options() != handler.options():
        raise InvalidValue(f"the listener {handler.name} is declared twice, and differently")
    _handlers[handler.name] = handler


def declared() -> list[Handler]:
    """All handlers of this process, by name."""
    return sorted(_handlers.values(), key=lambda handler: handler.name)


def forget(names: Iterable[str]) -> None:
    """Takes handlers out of the registry."""
    for name in names:
        _handlers.pop(name, None)


# -- checks -------------------------------------------------------------------------------------------------------


def checked_options(
    *,
    concurrency: int,
    retry: BackOff,
    retryable: Exceptions,
    not_retryable: Exceptions,
    blocking: bool,
    batch: bool,
    ack_mode: str,
    savepoint: str,
) -> dict[str, Any]:
    """What all kinds of listeners are told, as fields of `Handler`. Raises `InvalidType` and `InvalidValue`."""
    if isinstance(retry, type):
        raise InvalidType(f"retry is a back-off, such as {retry.__name__}(), and not its class")
    return {
        "concurrency": whole("concurrency", concurrency, 1, MAX_CONCURRENCY),
        "policy": Policy(
            retry,
            retryable=_classes(retryable),
            not_retryable=_classes(not_retryable),
            blocking=_flag("blocking", blocking),
        ),
        "batch": _flag("batch", batch),
        "ack_mode": _one_of("ack_mode", ack_mode, ACK_MODES),
        "savepoint": _one_of("savepoint", savepoint, SAVEPOINTS),
    }


def checked_function(function: Callable[..., Any], name: str | None, consumer: str) -> dict[str, Any]:
    """What a function says of itself, as fields of `Handler`; `consumer` is who processes unless `@idempotent` says.

    Raises `InvalidType` and `InvalidValue` for what cannot be a handler.
    """
    bare = getattr(function, "handler", function)
    return {
        "name": _name(function, name),
        "function": bare,
        "is_async": _is_async(bare),
        "key": getattr(function, "idempotent_key", None),
        "consumer": getattr(function, "idempotent_consumer", None) or consumer,
    }


def _name(function: object, given: str | None) -> str:
    """The handler's dotted name; refuses what cannot be a handler."""
    if not callable(function) or isinstance(function, type):
        raise InvalidType(f"a handler is a function of one record, not {shown(function)}")
    name = given
    if name is None:
        module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
        if not module or not qualname:
            raise InvalidValue(f"{shown(function)} has no name of its own: give the listener one with name=")
        name = f"{module}.{qualname}"
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise InvalidValue(f"a listener's name has 1 to {MAX_NAME_LENGTH} printable characters, unlike {shown(name)}")
    bare = getattr(function, "handler", function)
    for kind in (bare, getattr(bare, "__call__", None)):  # noqa: B004 - an object may be called too
        if inspect.isgeneratorfunction(kind) or inspect.isasyncgenfunction(kind):
            raise InvalidType(f"{name} is a generator: a call of it would handle nothing")
    try:
        inspect.signature(bare).bind(object())
    except TypeError:
        raise InvalidType(f"{name} must take one argument, the record or the list of records") from None
    except ValueError:  # a builtin that does not say what it takes
        return name
    return name


def _is_async(function: Callable[..., Any]) -> bool:
    called = getattr(function, "__call__", None)  # noqa: B004 - an object may be called too
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def whole(name: str, value: object, least: int, most: int) -> int:
    """A whole number within bounds; raises `InvalidType` and `InvalidValue`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidType(f"{name} is a whole number, not {shown(value)}")
    if not least <= value <= most:
        raise InvalidValue(f"{name} must be {least} to {most}, not {value}")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidType(f"{name} is True or False, not {shown(value)}")
    return value


def _one_of(name: str, value: object, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise InvalidValue(f"{name} must be one of {', '.join(allowed)}, not {shown(value)}")
    return str(value)


def _classes(given: Exceptions) -> tuple[type[BaseException], ...]:
    """One class or several; `Policy` looks at what they are."""
    return (given,) if isinstance(given, type) else tuple(given)
