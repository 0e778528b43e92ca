"""Topics: creating, altering and deleting them, and what every process remembers of them.

`TopicInfo` is what publishing and fetching need, cached for `CACHE_SECONDS` and forgotten at once where a change was
made or heard of. Called by REST, console, commands and declarations.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import IntegrityError, connection, transaction

from brokers import audit, partitioner, wakeup
from brokers.database import acquire, sqlstate, sync_cursor
from brokers.errors import (
    InvalidValue,
    PartitionNotFound,
    PartitionsCannotShrink,
    TopicExists,
    TopicNotFound,
    shown,
)
from brokers.models import DeletedPartition, Partition, Topic
from brokers.names import validate
from brokers.partitioner import Partitioner
from brokers.settings import (
    CACHE_SECONDS,
    MAX_PARTITIONS,
    MAX_RECORD_BYTES,
    MAX_RECORD_BYTES_LIMIT,
    RETENTION_MS,
)
from brokers.sql import load

SQL = load("topic_log")

_UNIQUE_VIOLATION = "23505"


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as publishing and fetching see it; `partition_ids[n]` is the row of partition n."""

    id: int
    name: str
    partitioner: str
    max_record_bytes: int
    compacted: bool
    partition_ids: tuple[int, ...]

    def partition_id(self, number: int) -> int:
        """The row of partition `number`; raises `PartitionNotFound`."""
        if 0 <= number < len(self.partition_ids):
            return self.partition_ids[number]
        raise PartitionNotFound(f"{self.name} has no partition {number}: it has 0 to {len(self.partition_ids) - 1}")

    def choose(self) -> Partitioner:
        """The function that places keys; raises `InvalidValue` when this process has not loaded it."""
        return partitioner.named(self.partitioner)


_cache: dict[str, tuple[float, TopicInfo]] = {}


def forget(name: str | None = None) -> None:
    """Drops what this process remembers of one topic, or of all."""
    if name is None:
        _cache.clear()
    else:
        _cache.pop(name, None)


def _remembered(name: str) -> TopicInfo | None:
    found = _cache.get(name)
    return found[1] if found is not None and found[0] > time.monotonic() else None


def _remember(name: str, row: tuple[Any, ...] | None) -> TopicInfo:
    if row is None:
        raise TopicNotFound(f"there is no topic {shown(name)}")
    info = TopicInfo(row[0], name, row[1], row[2], row[3] == "compact", tuple(row[4]))
    _cache[name] = (time.monotonic() + CACHE_SECONDS, info)
    return info


def lookup(name: str) -> TopicInfo:
    """What this process knows of a topic, read again after two seconds.

    Raises `TopicNotFound`. Runs on Django's connection.
    """
    found = _remembered(name)
    if found is not None:
        return found
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.topic, (name,)).fetchone()
    return _remember(name, row)


async def alookup(name: str) -> TopicInfo:
    """`lookup` for async code, on the pool."""
    found = _remembered(name)
    if found is not None:
        return found
    async with acquire() as conn:
        row = await (await conn.execute(SQL.topic, (name,))).fetchone()
    return _remember(name, row)


async def aexisting(names: Iterable[str]) -> set[str]:
    """Those of the names that topics have now. Runs on the pool."""
    async with acquire() as conn:
        return {row[0] for row in await (await conn.execute(SQL.existing, (list(names),))).fetchall()}


def _check(
    *,
    partitions: int | None = None,
    retention_ms: int | None = None,
    retention_bytes: int | None = None,
    max_record_bytes: int | None = None,
    cleanup_policy: str | None = None,
    partitioner_name: str | None = None,
) -> None:
    errors: list[tuple[str, str]] = []
    if partitions is not None and not 1 <= partitions <= MAX_PARTITIONS:
        errors.append(("/partitions", f"must be 1 to {MAX_PARTITIONS}, not {partitions}"))
    for name, value in (("retention_ms", retention_ms), ("retention_bytes", retention_bytes)):
        if value is not None and not 1 <= value < 2**63:
            errors.append((f"/{name}", f"must be at least 1, or null for no limit, not {value}"))
    if max_record_bytes is not None and not 1 <= max_record_bytes <= MAX_RECORD_BYTES_LIMIT:
        errors.append(("/max_record_bytes", f"must be 1 to {MAX_RECORD_BYTES_LIMIT}, not {max_record_bytes}"))
    if cleanup_policy is not None and cleanup_policy not in ("delete", "compact"):
        errors.append(("/cleanup_policy", f"must be delete or compact, not {shown(cleanup_policy)}"))
    if partitioner_name is not None:
        try:
            partitioner.named(partitioner_name)
        except InvalidValue as error:
            errors.append(("/partitioner", error.detail))
    if errors:
        raise InvalidValue("the topic's settings are not valid", errors=errors)


def create(
    name: str,
    *,
    partitions: int = 3,
    retention_ms: int | None = RETENTION_MS,
    retention_bytes: int | None = None,
    max_record_bytes: int = MAX_RECORD_BYTES,
    cleanup_policy: str = "delete",
    partitioner: str = "crc32",
    actor: audit.Actor = audit.SYSTEM,
) -> Topic:
    """Creates a topic. `retention_ms` None keeps records for ever; `retention_bytes` limits each partition.

    Raises `InvalidName`, `InvalidValue` and `TopicExists`. Opens a transaction.
    """
    validate("topic", name)
    _check(
        partitions=partitions,
        retention_ms=retention_ms,
        retention_bytes=retention_bytes,
        max_record_bytes=max_record_bytes,
        cleanup_policy=cleanup_policy,
        partitioner_name=partitioner,
    )
    try:
        with transaction.atomic():
            topic = Topic.objects.create(
                name=name,
                retention_ms=retention_ms,
                retention_bytes=retention_bytes,
                max_record_bytes=max_record_bytes,
                cleanup_policy=cleanup_policy,
                partitioner=partitioner,
            )
            Partition.objects.bulk_create(Partition(topic=topic, number=n) for n in range(partitions))
            audit.record(actor, "create", "topic", name, {"partitions": partitions})
    except IntegrityError as error:
        if sqlstate(error) != _UNIQUE_VIOLATION:
            raise
        raise TopicExists(f"there is a topic {name} already") from error
    topic.refresh_from_db()
    _changed(name)
    return topic


class Unset:
    """Marks a setting that is to stay as it is, where None means no limit."""


UNSET = Unset()


def alter(
    name: str,
    *,
    partitions: int | None = None,
    retention_ms: int | Unset | None = UNSET,
    retention_bytes: int | Unset | None = UNSET,
    max_record_bytes: int | None = None,
    cleanup_policy: str | None = None,
    actor: audit.Actor = audit.SYSTEM,
) -> Topic:
    """Changes what is given. Partitions can only be added: keys may then go to other partitions than before.

    Raises `TopicNotFound`, `InvalidValue` and `PartitionsCannotShrink`. Opens a transaction.
    """
    _check(
        partitions=partitions,
        retention_ms=None if isinstance(retention_ms, Unset) else retention_ms,
        retention_bytes=None if isinstance(retention_bytes, Unset) else retention_bytes,
        max_record_bytes=max_record_bytes,
        cleanup_policy=cleanup_policy,
    )
    wanted = {
        "retention_ms": retention_ms,
        "retention_bytes": retention_bytes,
        "max_record_bytes": UNSET if max_record_bytes is None else max_record_bytes,
        "cleanup_policy": UNSET if cleanup_policy is None else cleanup_policy,
    }
    with transaction.atomic():
        topic = _locked(name)
        changes: dict[str, Any] = {}
        for field, value in wanted.items():
            if not isinstance(value, Unset) and getattr(topic, field) != value:
                changes[field] = [getattr(topic, field), value]
                setattr(topic, field, value)
        topic.save(update_fields=list(changes))
        if partitions is not None:
            there = topic.partitions.count()
            if partitions < there:
                raise PartitionsCannotShrink(f"{name} has {there} partitions; {partitions} would be fewer")
            if partitions > there:
                changes["partitions"] = [there, partitions]
                Partition.objects.bulk_create(Partition(topic=topic, number=n) for n in range(there, partitions))
        if changes:
            audit.record(actor, "alter", "topic", name, changes)
    _changed(name)
    return topic


def delete(name: str, *, actor: audit.Actor = audit.SYSTEM) -> None:
    """Deletes a topic with all of its records, at once for every reader; their storage is freed in the background.

    Raises `TopicNotFound`. Opens a transaction.
    """
    with transaction.atomic():
        topic = _locked(name)
        ids = list(topic.partitions.order_by("id").values_list("id", flat=True))
        with connection.cursor() as cursor:
            cursor.execute("select 1 from brokers_partition where id = any(%s) order by id for update", [ids])
        DeletedPartition.objects.bulk_create(DeletedPartition(partition_id=number) for number in ids)
        topic.delete()
        audit.record(actor, "delete", "topic", name, {"partitions": len(ids)})
    _changed(name)


def _locked(name: str) -> Topic:
    topic = Topic.objects.select_for_update().filter(name=name).first()
    if topic is None:
        raise TopicNotFound(f"there is no topic {shown(name)}")
    return topic


def _changed(name: str) -> None:
    def tell() -> None:
        forget(name)
        wakeup.announce_change("t", name)

    forget(name)
    transaction.on_commit(tell)


def gone(error: psycopg.Error | BaseException, info: TopicInfo) -> TopicNotFound:
    """The answer to an append or fetch whose partition was deleted meanwhile."""
    forget(info.name)
    return TopicNotFound(f"there is no topic {info.name} any more")
