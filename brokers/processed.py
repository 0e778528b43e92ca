"""Processing once: a consumer's row for each key that it has processed, in the transaction of the effects.

`@idempotent` stands at a handler or at a function that a view calls, `process_once` inside one; a listener claims the
keys of a whole poll in one statement. Whoever comes second under a key waits until the first is through: then it
skips, or goes on if the first was rolled back. Rows are forgotten after `KEPT_DAYS`, by housekeeping.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Collection, Sequence
from contextvars import ContextVar
from typing import Any, Final, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection

from brokers.database import in_transaction, store_errors, sync_cursor
from brokers.errors import BrokerError, InvalidValue, shown
from brokers.sql import load

SQL = load("processed")

KEPT_DAYS: Final = 30
"""How long a key is remembered, unless the Django setting `BROKERS_PROCESSED_DAYS` says otherwise."""
MAX_KEY_LENGTH: Final = 1024
"""Characters of a key."""
MAX_CONSUMER_LENGTH: Final = 249
"""Characters of a consumer's name."""
_CUT_CONSUMER: Final = MAX_CONSUMER_LENGTH - 17
_PURGE_ROWS = 5000
_PURGE_STATEMENTS = 100
"""Statements of one call of `purge`, each a transaction of its own; the rest waits for the next call."""

current_consumer: ContextVar[str | None] = ContextVar("waystation_consumer", default=None)
"""The consumer group whose handler runs now; a listener sets it around the handler."""

Handler = TypeVar("Handler", bound=Callable[..., Any])


class TransactionRequired(BrokerError):
    """Called outside of a transaction, where a key could be remembered without its effects."""

    code = "transaction_required"


class ConsumerRequired(BrokerError):
    """Called outside of a listener without saying for which consumer."""

    code = "consumer_required"


def key_text(key: object) -> str:
    """A key as it is stored: text of 1 to 1024 characters; whole numbers and UUIDs are written out.

    Raises `InvalidValue` for anything else, and for text that PostgreSQL cannot hold.
    """
    if isinstance(key, UUID) or (isinstance(key, int) and not isinstance(key, bool)):
        key = str(key)
    if not isinstance(key, str):
        raise InvalidValue(f"an idempotency key must be text, a whole number or a UUID, not {shown(key)}")
    return _checked("an idempotency key", key, MAX_KEY_LENGTH)


def _checked(what: str, text: str, longest: int) -> str:
    if not 1 <= len(text) <= longest:
        raise InvalidValue(f"{what} must have 1 to {longest} characters, not {len(text)}")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidValue(f"{what} must hold neither NUL nor half of a surrogate pair: {shown(text)}")
    return text


def consumer_of_queue(queue: str) -> str:
    """The consumer's name under which a queue's listener processes: no consumer group's, since those hold no colon.

    A queue's name that is too long for it is cut, with a digest of the whole. `brokers_queue_consumer_name` is the
    same in the database.
    """
    name = f"queue:{queue}"
    if len(name) <= MAX_CONSUMER_LENGTH:
        return name
    return f"{name[:_CUT_CONSUMER]}:{hashlib.sha256(queue.encode()).hexdigest()[:16]}"


def process_once(key: object, consumer: str | None = None) -> bool:
    """Whether this is the first time that the consumer processes the key; part of the caller's transaction.

    True once: go on and make the effects in the same transaction. False when a committed transaction has done so, or
    an earlier call in this one. While another transaction that was first under the key is open, this waits for its
    end. The consumer is the consumer group being handled unless given. Raises `TransactionRequired`,
    `ConsumerRequired`, and `InvalidValue` for a key that `key_text` refuses.
    """
    name, text = _consumer(consumer), key_text(key)
    _require_transaction("process_once")
    # Django's own cursor, so that a listener sees the query and undoes it with the record that made it.
    with store_errors(), connection.cursor() as cursor:
        cursor.execute(SQL.claim, (name, [text]))
        return bool(cursor.rowcount == 1)


async def aprocess_once(key: object, consumer: str | None = None) -> bool:
    """`process_once` for asynchronous code, on the thread that holds Django's connection and its transaction."""
    return await sync_to_async(process_once, thread_sensitive=True)(key, consumer)


def idempotent(*, key: Callable[..., object], consumer: str | None = None) -> Callable[[Handler], Handler]:
    """Lets a function run once for each key: for a key processed before, a call returns None and does nothing.

    `key` is called with the function's own arguments. Under `@topic_listener` or `@queue_listener` it is the
    consumer group that processes; elsewhere name a `consumer`, and call within a transaction. Functions may be
    asynchronous. A call raises what `process_once` and the function raise.
    """
    if consumer is not None:
        _checked("a consumer's name", consumer, MAX_CONSUMER_LENGTH)

    def decorate(function: Handler) -> Handler:
        @functools.wraps(function)
        def once(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs) if process_once(key(*args, **kwargs), consumer) else None

        @functools.wraps(function)
        async def aonce(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs) if await aprocess_once(key(*args, **kwargs), consumer) else None

        wrapper: Any = aonce if inspect.iscoroutinefunction(function) else once
        wrapper.idempotent_key = key
        wrapper.idempotent_consumer = consumer
        wrapper.handler = function
        found: Handler = wrapper
        return found

    return decorate


def claim(consumer: str, keys: Collection[str]) -> set[str]:
    """Those of the keys that are new to the consumer, which has processed them once this transaction is committed.

    One statement in the order of the keys, so that two claims never wait for each other. A key that stands twice is
    answered once: see `to_handle`. Raises `TransactionRequired`. Keys are as `key_text` made them.
    """
    _require_transaction("claim")
    if not keys:
        return set()
    with sync_cursor() as cursor:
        return {row[0] for row in cursor.execute(SQL.claim, (consumer, list(set(keys)))).fetchall()}


def to_handle(keys: Sequence[str], new: Collection[str]) -> list[bool]:
    """For each key of a poll, whether its record is the one to handle: the first under a key that is new."""
    waiting = set(new)
    answers = []
    for key in keys:
        answers.append(key in waiting)
        waiting.discard(key)
    return answers


def release(consumer: str, keys: Collection[str]) -> None:
    """Takes back keys whose records were not handled after all; part of the caller's transaction.

    Only for what `claim` answered in this transaction, and only for records that `to_handle` chose: a key that stands
    again behind a record that was handled is that record's. Raises `TransactionRequired`.
    """
    _require_transaction("release")
    if keys:
        with sync_cursor() as cursor:
            cursor.execute(SQL.release, (consumer, list(keys)))


def purge(keep_going: Callable[[], bool] = lambda: True) -> int:
    """Forgets keys past their time, a bounded number, oldest first; says how many. Many short transactions."""
    days = float(getattr(settings, "BROKERS_PROCESSED_DAYS", KEPT_DAYS))
    total = 0
    for _ in range(_PURGE_STATEMENTS):
        if not keep_going():
            break
        with sync_cursor() as cursor:
            cursor.execute(SQL.purge, (days, _PURGE_ROWS))
            total += cursor.rowcount
            if cursor.rowcount < _PURGE_ROWS:
                break
    return total


def _consumer(given: str | None) -> str:
    name = given if given is not None else current_consumer.get()
    if name is None:
        raise ConsumerRequired("outside of a listener say which consumer processes: consumer='billing'")
    return _checked("a consumer's name", name, MAX_CONSUMER_LENGTH)


def _require_transaction(name: str) -> None:
    if not in_transaction():
        raise TransactionRequired(
            f"{name} works in the transaction of the effects: call it inside `with transaction.atomic():`"
        )
