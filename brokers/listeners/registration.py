"""`@topic_listener`: what an application says of a handler, checked when it is said, and the registry of this process.

Everything that can be wrong with a handler or its options is refused here, at import, rather than by a worker at its
first record. The worker reads `declared_listeners` after `declarations.discover`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from brokers.errors import InvalidType, InvalidValue, shown
from brokers.groups import Subscription
from brokers.names import validate
from brokers.record import Record
from brokers.retries.backoff import BackOff, FixedBackOff
from brokers.retries.decision import Policy
from brokers.settings import MAX_RECORDS_PER_REQUEST

ACK_MODES: Final = ("batch", "record")
SAVEPOINTS: Final = ("lazy", "eager")
MAX_CONCURRENCY: Final = 64
"""Member threads of one listener in one worker process."""
MAX_WORKER_LOSSES: Final = 100
MAX_NAME_LENGTH: Final = 200
"""Characters of a handler's name: an instance id, which ends with slot and thread, has 249."""

Function = TypeVar("Function", bound=Callable[..., Any])
Exceptions = type[BaseException] | Iterable[type[BaseException]]


class BatchListenerFailed(Exception):
    """Raised by a batch handler to say which record failed, by its index in the list or as the record itself.

    Those before it are handled and committed, it alone is retried or given up, then those after it come again (Spring's
    BatchListenerFailedException). The handler is called again with the records before it, its first call being rolled
    back with all that it did. `cause` is what went wrong, by default the exception that this one is raised from.
    """

    def __init__(self, failed: int | Record, cause: BaseException | None = None) -> None:
        if isinstance(failed, bool) or not isinstance(failed, int | Record):
            raise InvalidType(f"a failed record is named by its index or by itself, not by {shown(failed)}")
        place = f"at index {failed}" if isinstance(failed, int) else f"{failed!r}"
        super().__init__(f"the record {place} could not be handled")
        self.failed = failed
        self.cause = cause

    def index_in(self, records: Sequence[Record]) -> int | None:
        """Which of the records failed; None when it is none of them."""
        if isinstance(self.failed, int):
            return self.failed if 0 <= self.failed < len(records) else None
        return next((index for index, record in enumerate(records) if record is self.failed), None)

    def reason(self) -> BaseException:
        """What went wrong with the record."""
        return self.cause or self.__cause__ or self


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A handler and how it is to be served; times in milliseconds."""

    name: str
    function: Callable[[Any], Any]
    """What is called: of an idempotent handler the function inside, because the worker claims the keys."""
    is_async: bool
    key: Callable[[Record], object] | None
    """What `@idempotent` calls a record."""
    consumer: str
    """Under which name keys are processed."""
    group: str
    concurrency: int
    max_poll_records: int
    subscription: Subscription
    policy: Policy
    batch: bool
    ack_mode: str
    max_worker_losses: int
    savepoint: str

    def options(self) -> tuple[object, ...]:
        """All but the functions: what two declarations under one name must agree on."""
        return (
            *(self.consumer, self.group, self.concurrency, self.max_poll_records, self.subscription, self.policy),
            *(self.batch, self.ack_mode, self.max_worker_losses, self.savepoint),
        )


_listeners: dict[str, Listener] = {}


def topic_listener(
    topics: str | Sequence[str],
    *,
    group: str,
    concurrency: int = 1,
    max_poll_records: int = 100,
    max_poll_interval_ms: int = 300_000,
    session_timeout_ms: int = 10_000,
    auto_offset_reset: str = "earliest",
    retry: BackOff = FixedBackOff(interval_ms=0, max_retries=9),  # noqa: B008 - frozen
    retryable: Exceptions = (),
    not_retryable: Exceptions = (),
    blocking: bool = True,
    batch: bool = False,
    ack_mode: str = "batch",
    max_worker_losses: int = 3,
    savepoint: str = "lazy",
    name: str | None = None,
) -> Callable[[Function], Function]:
    """Makes a function the handler of topics for a consumer group; the function itself stays as it is.

    It is called with a record, with `batch=True` with a list of records of one partition; it may be `async def`. What
    it writes to the default database, what it publishes, and the committed offset are one transaction: of up to
    `max_poll_records` records, or of one with `ack_mode="record"` (Spring's AckMode.BATCH and RECORD). `concurrency`
    members run in each worker process.

    A handler that raises is retried by `retry` (nine times at once, as Spring's DefaultErrorHandler), unless
    `retryable` and `not_retryable` say otherwise; meanwhile its partition waits, or goes on with `blocking=False`.
    Then the record becomes a dead letter. One that was being handled when `max_worker_losses` workers in a row were
    lost is given up without a call. `savepoint="eager"` is for handlers that send queries past Django's cursors.

    Raises `InvalidName`, `InvalidType` and `InvalidValue`, also for a second, different declaration of a name.
    """
    validate("group", group)
    subscription = Subscription(
        _topics(topics),
        auto_offset_reset,
        _whole("session_timeout_ms", session_timeout_ms, 1, 2**31 - 1),
        _whole("max_poll_interval_ms", max_poll_interval_ms, 1, 2**31 - 1),
    ).checked()
    if isinstance(retry, type):
        raise InvalidType(f"retry is a back-off, such as {retry.__name__}(), and not its class")
    policy = Policy(
        retry,
        retryable=_classes(retryable),
        not_retryable=_classes(not_retryable),
        blocking=_flag("blocking", blocking),
    )
    options: dict[str, Any] = {
        "group": group,
        "concurrency": _whole("concurrency", concurrency, 1, MAX_CONCURRENCY),
        "max_poll_records": _whole("max_poll_records", max_poll_records, 1, MAX_RECORDS_PER_REQUEST),
        "subscription": subscription,
        "policy": policy,
        "batch": _flag("batch", batch),
        "ack_mode": _one_of("ack_mode", ack_mode, ACK_MODES),
        "max_worker_losses": _whole("max_worker_losses", max_worker_losses, 1, MAX_WORKER_LOSSES),
        "savepoint": _one_of("savepoint", savepoint, SAVEPOINTS),
    }

    def register(function: Function) -> Function:
        bare = getattr(function, "handler", function)
        listener = Listener(
            name=_name(function, name),
            function=bare,
            is_async=_is_async(bare),
            key=getattr(function, "idempotent_key", None),
            consumer=getattr(function, "idempotent_consumer", None) or group,
            **options,
        )
        before = _listeners.get(listener.name)
        if before is not None and before.options() != listener.options():
            raise InvalidValue(f"the listener {listener.name} is declared twice, and differently")
        _listeners[listener.name] = listener
        return function

    return register


def declared_listeners() -> list[Listener]:
    """All listeners of this process, by name."""
    return sorted(_listeners.values(), key=lambda listener: listener.name)


def forget(names: Iterable[str]) -> None:
    """Takes listeners out of the registry."""
    for name in names:
        _listeners.pop(name, None)


# -- checks -------------------------------------------------------------------------------------------------------


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


def _topics(given: object) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, Iterable):
        raise InvalidType(f"topics are a name or several, not {shown(given)}")
    return tuple(given)


def _is_async(function: Callable[..., Any]) -> bool:
    called = getattr(function, "__call__", None)  # noqa: B004 - an object may be called too
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def _whole(name: str, value: object, least: int, most: int) -> int:
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
