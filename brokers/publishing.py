"""Publishing to topics: the one way into the log, for Python code and for every surface.

Takes records that are checked (`record_input`) and planned (`outgoing`), appends them at once or as part of the
caller's transaction, then wakes whoever waits. Permissions are the surfaces' matter: code in this process may publish
anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.db import transaction

from brokers import metrics, record_input, topic_log, wakeup
from brokers.database import in_handler, in_transaction
from brokers.outgoing import Outgoing, Positions, plan
from brokers.record import NewRecord, Position
from brokers.topics import TopicInfo, alookup, lookup


def publish(
    topic: str,
    value: Any,
    *,
    key: str | bytes | None = None,
    headers: Mapping[str, str] | None = None,
    partition: int | None = None,
    timestamp: int | None = None,
) -> Position:
    """Publishes one record: bytes as they are, anything else as JSON, None as a tombstone.

    `timestamp` is in Unix milliseconds. Inside a database transaction the record is part of it: it appears when the
    transaction commits, never when it rolls back, and the offset of the answer is None. Outside of one it is on disk
    when this returns. Raises `TopicNotFound`, `PartitionNotFound`, `InvalidValue`, `RecordTooLarge`, `KeyRequired`,
    `UnencodableValue` and `Unavailable`.
    """
    return publish_outgoing(lookup(topic), record_input.single(value, key, headers, partition, timestamp))[0]


def publish_many(topic: str, records: Iterable[Mapping[str, Any] | NewRecord]) -> Sequence[Position]:
    """Publishes records, all or none, in one append; each a mapping with `value` and what else `publish` takes.

    The positions come in the order given. Transactions and errors as for `publish`.
    """
    outgoing = record_input.outgoing(records)
    return _publish_checked(topic, outgoing)


async def apublish(
    topic: str,
    value: Any,
    *,
    key: str | bytes | None = None,
    headers: Mapping[str, str] | None = None,
    partition: int | None = None,
    timestamp: int | None = None,
) -> Position:
    """`publish` for asynchronous code, outside of a transaction: on disk when it returns.

    In an asynchronous handler of a listener it is part of the handler's transaction, as `publish` is.
    """
    outgoing = record_input.single(value, key, headers, partition, timestamp)
    if in_handler.get():
        return (await sync_to_async(_publish_checked)(topic, outgoing))[0]
    return (await apublish_outgoing(await alookup(topic), outgoing))[0]


async def apublish_many(topic: str, records: Iterable[Mapping[str, Any] | NewRecord]) -> Sequence[Position]:
    """`publish_many` for asynchronous code; transactions as for `apublish`."""
    outgoing = record_input.outgoing(records)
    if in_handler.get():
        return await sync_to_async(_publish_checked)(topic, outgoing)
    return await apublish_outgoing(await alookup(topic), outgoing) if outgoing.rows else []


def _publish_checked(topic: str, outgoing: Outgoing) -> Sequence[Position]:
    return publish_outgoing(lookup(topic), outgoing) if outgoing.rows else []


def publish_outgoing(info: TopicInfo, outgoing: Outgoing) -> Positions:
    """Publishes checked records: within the caller's transaction if there is one."""
    made = plan(info, outgoing)
    if in_transaction():
        topic_log.stage(info, made.batches)
        transaction.on_commit(partial(_published, made.count, made.partition_ids()), robust=True)
        return made.positions(None)
    bases = topic_log.append(info, made.batches)
    _published(made.count, made.partition_ids())
    return made.positions(bases)


async def apublish_outgoing(info: TopicInfo, outgoing: Outgoing) -> Positions:
    """Appends checked records at once; the coalescer and asynchronous callers come through here."""
    made = plan(info, outgoing)
    bases = await topic_log.aappend(info, made.batches)
    _published(made.count, made.partition_ids())
    return made.positions(bases)


def _published(count: int, partition_ids: Iterable[int]) -> None:
    metrics.records_published.inc(count)
    wakeup.announce_partitions(partition_ids)
