"""What applications declare in their `messaging.py`, and how `up` makes it so.

A declaration is desired state, made in any order: reconciling creates what is missing, raises what may be raised, and
never deletes, shrinks or changes back what a person made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Unpack

from django.apps import apps

from brokers import partitioner as partitioners
from brokers import topics
from brokers.errors import InvalidValue, PreconditionFailed, TopicExists, TopicNotFound
from brokers.names import validate
from brokers.partitioner import Partitioner
from brokers.queues import arguments as rules
from brokers.queues import declaring, routing
from brokers.queues.arguments import QueueSettings
from brokers.queues.exchanges import refuse_default
from brokers.settings import MAX_RECORD_BYTES, RETENTION_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicDeclaration:
    """A topic as an application wants it; the fields are those of `topics.create`."""

    name: str
    partitions: int
    retention_ms: int | None
    retention_bytes: int | None
    max_record_bytes: int
    cleanup_policy: str
    partitioner: str


@dataclass(frozen=True, slots=True)
class ExchangeDeclaration:
    """An exchange as an application wants it."""

    name: str
    type: str
    alternate_exchange: str | None


@dataclass(frozen=True, slots=True)
class QueueDeclaration:
    """A queue as an application wants it; `settings` are those of `declaring.declare_queue`, each of them."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BindingDeclaration:
    """A binding as an application wants it; `arguments` are canonical JSON text."""

    exchange: str
    queue: str | None
    to_exchange: str | None
    routing_key: str
    arguments: str


_topics: dict[str, TopicDeclaration] = {}
_exchanges: dict[str, ExchangeDeclaration] = {}
_queues: dict[str, QueueDeclaration] = {}
_bindings: dict[BindingDeclaration, None] = {}


def topic(
    name: str,
    *,
    partitions: int = 3,
    retention_ms: int | None = RETENTION_MS,
    retention_bytes: int | None = None,
    max_record_bytes: int = MAX_RECORD_BYTES,
    cleanup_policy: str = "delete",
    partitioner: str | Partitioner = "crc32",
) -> str:
    """Declares a topic, and answers its name. `up` creates it.

    `partitioner` may be a function of key bytes and partition count; it must be a module-level function, because each
    process finds it by its dotted name. Raises `InvalidName`, and `InvalidValue` for a second, different declaration.
    """
    validate("topic", name)
    declared = TopicDeclaration(
        name=name,
        partitions=partitions,
        retention_ms=retention_ms,
        retention_bytes=retention_bytes,
        max_record_bytes=max_record_bytes,
        cleanup_policy=cleanup_policy,
        partitioner=partitioner if isinstance(partitioner, str) else _register(partitioner),
    )
    if _topics.setdefault(name, declared) != declared:
        raise InvalidValue(f"topic {name} is declared twice, and differently")
    return name


def _register(function: Callable[[bytes, int], int]) -> str:
    name = f"{function.__module__}.{function.__qualname__}"
    if "<" in name:
        raise InvalidValue(f"a partitioner must be a module-level function, not {name}")
    partitioners.register(name, function)
    return name


def exchange(
    name: str,
    *,
    type: str = "direct",  # noqa: A002 - the contract's word
    alternate_exchange: str | None = None,
) -> str:
    """Declares an exchange, and answers its name. `up` creates it.

    Raises `InvalidName`, `InvalidValue` for what cannot be and for a second, different declaration, and `AccessDenied`
    for the default exchange.
    """
    refuse_default(name)
    validate("exchange", name)
    rules.exchange_settings(type, alternate_exchange)
    declared = ExchangeDeclaration(name, type, alternate_exchange)
    if _exchanges.setdefault(name, declared) != declared:
        raise InvalidValue(f"exchange {name} is declared twice, and differently")
    return name


def queue(name: str, **settings: Unpack[QueueSettings]) -> str:
    """Declares a durable queue, and answers its name. `up` creates it.

    Raises `InvalidName`, `UnknownField`, and `InvalidValue` for what cannot be and for a second, different declaration.
    """
    validate("queue", name)
    declared = QueueDeclaration(name, rules.queue_settings(settings))
    if _queues.setdefault(name, declared) != declared:
        raise InvalidValue(f"queue {name} is declared twice, and differently")
    return name


def binding(
    exchange: str,
    *,
    queue: str | None = None,
    to_exchange: str | None = None,
    routing_key: str = "",
    arguments: Mapping[str, Any] | None = None,
) -> None:
    """Declares a binding of an exchange to a queue or to another exchange, whether they are declared before or after.

    `up` creates it; what it names must be there then. Raises `InvalidName`, `InvalidValue`, and `AccessDenied` for the
    default exchange.
    """
    for kind, name in (("exchange", exchange), ("exchange", to_exchange), ("queue", queue)):
        if name is not None:
            if kind == "exchange":
                refuse_default(name)
            validate(kind, name)
    if (queue is None) == (to_exchange is None):
        raise InvalidValue("a binding leads to a queue or to an exchange: give one of queue and to_exchange")
    routing.check_key(routing_key)
    text = rules.binding_arguments(arguments)
    _bindings[BindingDeclaration(exchange, queue, to_exchange, routing_key, text)] = None


def declared_topics() -> list[TopicDeclaration]:
    """All declarations of this process, by name."""
    return sorted(_topics.values(), key=lambda declaration: declaration.name)


def discover() -> None:
    """Imports `messaging.py` of each installed app that has one; what it declares is registered then."""
    for config in apps.get_app_configs():
        module = f"{config.name}.messaging"
        if find_spec(module) is not None:
            import_module(module)


def reconcile() -> list[str]:
    """Creates what is declared and missing, adds partitions where more are declared, and says what it did.

    Other differences are left as they are, those of exchanges and queues with a word: somebody may have changed them on
    purpose. Raises `ExchangeNotFound` and `QueueNotFound` for a binding of what is neither declared nor there, and
    `InvalidValue`. Opens transactions.
    """
    return [*_reconcile_topics(), *_reconcile_exchanges(), *_reconcile_queues(), *_reconcile_bindings()]


def _reconcile_topics() -> list[str]:
    done: list[str] = []
    for declared in declared_topics():
        try:
            there = len(topics.lookup(declared.name).partition_ids)
        except TopicNotFound:
            done.extend(_create(declared))
            continue
        if there < declared.partitions:
            topics.alter(declared.name, partitions=declared.partitions)
            done.append(f"topic {declared.name} has {declared.partitions} partitions now, {there} before")
    return done


def _create(declared: TopicDeclaration) -> list[str]:
    try:
        topics.create(
            declared.name,
            partitions=declared.partitions,
            retention_ms=declared.retention_ms,
            retention_bytes=declared.retention_bytes,
            max_record_bytes=declared.max_record_bytes,
            cleanup_policy=declared.cleanup_policy,
            partitioner=declared.partitioner,
        )
    except TopicExists:  # another `up` was quicker
        return []
    return [f"topic {declared.name} created with {declared.partitions} partitions"]


def _reconcile_exchanges() -> list[str]:
    done: list[str] = []
    for declared in sorted(_exchanges.values(), key=lambda declaration: declaration.name):
        try:
            if declaring.declare_exchange(
                declared.name, type=declared.type, alternate_exchange=declared.alternate_exchange
            ):
                done.append(f"exchange {declared.name} created, {declared.type}")
        except PreconditionFailed as error:
            done.append(f"{error.detail}; left as it is")
    return done


def _reconcile_queues() -> list[str]:
    done: list[str] = []
    for declared in sorted(_queues.values(), key=lambda declaration: declaration.name):
        try:
            if declaring.declare_queue(declared.name, **declared.settings):
                done.append(f"queue {declared.name} created")
        except PreconditionFailed as error:
            done.append(f"{error.detail}; left as it is")
    return done


def _reconcile_bindings() -> list[str]:
    done: list[str] = []
    for declared in _bindings:
        _, created = declaring.bind(
            declared.exchange,
            queue=declared.queue,
            to_exchange=declared.to_exchange,
            routing_key=declared.routing_key,
            arguments=json.loads(declared.arguments),
        )
        if created:
            to = f"queue {declared.queue}" if declared.queue is not None else f"exchange {declared.to_exchange}"
            done.append(f"exchange {declared.exchange} bound to {to} by {declared.routing_key!r}")
    return done
