"""What applications declare in their `messaging.py`, and how `up` makes it so.

A declaration is desired state: reconciling creates what is missing, raises what may be raised, and never deletes or
shrinks what a person made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from django.apps import apps

from brokers import partitioner as partitioners
from brokers import topics
from brokers.errors import InvalidValue, TopicExists, TopicNotFound
from brokers.names import validate
from brokers.partitioner import Partitioner
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


_topics: dict[str, TopicDeclaration] = {}


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
    """Creates declared topics that are missing and adds partitions where more are declared; says what it did.

    Other differences are left as they are: somebody may have changed them on purpose. Opens transactions.
    """
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
