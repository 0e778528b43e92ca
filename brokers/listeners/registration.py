"""`@topic_listener`: what an application says of a handler of topics. The worker reads `declared_listeners`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from brokers.errors import InvalidType, shown
from brokers.groups import Subscription
from brokers.listeners import handlers
from brokers.listeners.handlers import (
    BatchListenerFailed,
    Exceptions,
    Function,
    Handler,
    checked_function,
    checked_options,
    forget,
    whole,
)
from brokers.names import validate
from brokers.retries.backoff import BackOff, FixedBackOff
from brokers.settings import MAX_RECORDS_PER_REQUEST

__all__ = ["BatchListenerFailed", "Listener", "declared_listeners", "forget", "topic_listener"]

MAX_WORKER_LOSSES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener(Handler):
    """A handler of topics; times in milliseconds."""

    group: str
    max_poll_records: int
    subscription: Subscription
    max_worker_losses: int

    def options(self) -> tuple[object, ...]:
        """As `Handler.options`."""
        own = (self.group, self.max_poll_records, self.subscription, self.max_worker_losses)
        return (*Handler.options(self), *own)


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
        whole("session_timeout_ms", session_timeout_ms, 1, 2**31 - 1),
        whole("max_poll_interval_ms", max_poll_interval_ms, 1, 2**31 - 1),
    ).checked()
    options: dict[str, Any] = checked_options(
        concurrency=concurrency,
        retry=retry,
        retryable=retryable,
        not_retryable=not_retryable,
        blocking=blocking,
        batch=batch,
        ack_mode=ack_mode,
        savepoint=savepoint,
    ) | {
        "group": group,
        "max_poll_records": whole("max_poll_records", max_poll_records, 1, MAX_RECORDS_PER_REQUEST),
        "subscription": subscription,
        "max_worker_losses": whole("max_worker_losses", max_worker_losses, 1, MAX_WORKER_LOSSES),
    }

    def register(function: Function) -> Function:
        handlers.register(Listener(**checked_function(function, name, group), **options))
        return function

    return register


def declared_listeners() -> list[Listener]:
    """All listeners of topics of this process, by name."""
    return [handler for handler in handlers.declared() if isinstance(handler, Listener)]


def _topics(given: object) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, Iterable):
        raise InvalidType(f"topics are a name or several, not {shown(given)}")
    return tuple(given)
