"""`@queue_listener`: what an application says of a handler of a queue. The worker reads `declared_queue_listeners`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from brokers.listeners import handlers
from brokers.listeners.handlers import (
    Exceptions,
    Function,
    Handler,
    checked_function,
    checked_options,
    whole,
)
from brokers.names import validate
from brokers.processed import consumer_of_queue
from brokers.retries.backoff import BackOff, FixedBackOff

MAX_PREFETCH: Final = 1000
MIN_LEASE_MS: Final = 100
MAX_LEASE_MS: Final = 86_400_000
MAX_HANDLING_MS: Final = 1_800_000
"""As RabbitMQ's `consumer_timeout`: 30 minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueListener(Handler):
    """A handler of a queue; times in milliseconds."""

    queue: str
    prefetch: int
    lease_ms: int
    max_handling_ms: int

    @property
    def consumer_name(self) -> str:
        """For whom `process_once` processes within the handler."""
        return consumer_of_queue(self.queue)

    def options(self) -> tuple[object, ...]:
        """As `Handler.options`."""
        return (*Handler.options(self), self.queue, self.prefetch, self.lease_ms, self.max_handling_ms)


def queue_listener(
    queue: str,
    *,
    prefetch: int = 10,
    concurrency: int = 1,
    retry: BackOff = FixedBackOff(interval_ms=0, max_retries=9),  # noqa: B008 - frozen
    retryable: Exceptions = (),
    not_retryable: Exceptions = (),
    batch: bool = False,
    lease_ms: int = 30_000,
    max_handling_ms: int = MAX_HANDLING_MS,
    ack_mode: str = "batch",
    savepoint: str = "lazy",
    name: str | None = None,
) -> Callable[[Function], Function]:
    """Makes a function the handler of a queue; the function itself stays as it is.

    It is called with a message, with `batch=True` with a list of up to `prefetch` messages; it may be `async def`. What
    it writes to the default database, what it publishes and sends, and the acknowledgement are one transaction: of what
    one claim of up to `prefetch` messages has brought, or of one message with `ack_mode="record"`. `concurrency`
    consumers run in each worker process.

    A handler that raises is retried by `retry` (nine times at once), unless `retryable` and `not_retryable` say
    otherwise: the message goes back to the queue, is due after the back-off, and holds up no other one. Then it is
    dead-lettered as `rejected`, or earlier by the queue's delivery limit. Messages are claimed for `lease_ms`, which is
    renewed while the handler runs, for `max_handling_ms` at most.

    Raises `InvalidName`, `InvalidType` and `InvalidValue`, also for a second, different declaration of a name.
    """
    validate("queue", queue)
    options: dict[str, Any] = checked_options(
        concurrency=concurrency,
        retry=retry,
        retryable=retryable,
        not_retryable=not_retryable,
        blocking=False,
        batch=batch,
        ack_mode=ack_mode,
        savepoint=savepoint,
    ) | {
        "queue": queue,
        "prefetch": whole("prefetch", prefetch, 1, MAX_PREFETCH),
        "lease_ms": whole("lease_ms", lease_ms, MIN_LEASE_MS, MAX_LEASE_MS),
        "max_handling_ms": whole("max_handling_ms", max_handling_ms, 1, 2**31 - 1),
    }

    def register(function: Function) -> Function:
        handlers.register(QueueListener(**checked_function(function, name, consumer_of_queue(queue)), **options))
        return function

    return register


def declared_queue_listeners() -> list[QueueListener]:
    """All listeners of queues of this process, by name."""
    return [handler for handler in handlers.declared() if isinstance(handler, QueueListener)]
