"""The record on `<topic>.DLT`: what consumers of a dead-letter topic get when a listener gives a record up.

Same partition number, key and value, and all of the record's own headers; beside them those of Spring Kafka's
DeadLetterPublishingRecoverer by its names, numbers as decimal text. Whatever limits a topic sets, giving up must not
fail for them: the record goes straight to the log. Called by `dead_letters` within its caller's transaction, and by
the listener before that transaction.
"""

from __future__ import annotations

import time
from functools import partial

from django.db import transaction

from brokers import codec, metrics, topic_log, topics, wakeup
from brokers.dead_letter_headers import OWN_PREFIX, without_own
from brokers.deliveries import Delivery
from brokers.errors import PartitionsCannotShrink, TopicExists, TopicNotFound
from brokers.failure import Failure, storable
from brokers.names import MAX_LENGTH
from brokers.settings import MAX_HEADER_BYTES, MAX_RECORD_BYTES_LIMIT
from brokers.topics import TopicInfo

SUFFIX = ".DLT"
_DLT = "kafka_dlt-"
_EXCEPTION_HEADERS = tuple(f"{_DLT}exception-{part}" for part in ("fqcn", "cause-fqcn", "message", "stacktrace"))
_MESSAGE_BYTES = 1024
"""The exception's message in a header."""
_LEAST_TRACE_BYTES = 256
"""A shorter rest of a stack trace says nothing."""


def name_for(topic: str) -> str | None:
    """The topic of a topic's dead letters; None when the name would be longer than a name may be."""
    name = topic + SUFFIX
    return name if len(name) <= MAX_LENGTH else None


def prepare(topic: str, partitions: int) -> None:
    """Makes a topic's dead-letter topic, or gives it as many partitions as the topic has.

    Transactions of its own, so call it before the one that gives a record up; when all is well it costs a look into
    what this process remembers.
    """
    name = name_for(topic)
    if name is None:
        return
    try:
        there = len(topics.lookup(name).partition_ids)
        if there < partitions:
            topics.alter(name, partitions=partitions)
    except TopicNotFound:
        _create(name, partitions)
    except PartitionsCannotShrink:  # others made it grow meanwhile, and beyond this
        topics.forget(name)


def _create(name: str, partitions: int) -> None:
    topics.forget(name)
    try:
        topics.create(name, partitions=partitions, max_record_bytes=MAX_RECORD_BYTES_LIMIT)
    except TopicExists:  # another worker was quicker; too few partitions are noticed the next time
        topics.forget(name)


def stage(delivery: Delivery, reason: str, failure: Failure | None, dead_letter_id: int | None = None) -> None:
    """Adds the record to the dead-letter topic within the caller's transaction.

    Raises `TopicNotFound` when that topic was deleted after `prepare`: the caller rolls back and begins again there.
    """
    name = name_for(delivery.record.topic)
    if name is None:
        return
    topics.forget(name)  # what is remembered may be two seconds old, and would let the commit fail
    info = topics.lookup(name)
    record = delivery.record
    partition = _partition(info, record.partition, record.key_bytes)
    row = (
        0,
        record.key_bytes,
        record.value_bytes,
        record.encoding,
        headers(delivery, reason, failure, dead_letter_id),
    )
    topic_log.stage(info, [(partition, codec.encode([row], time.time_ns() // 1_000_000, False))])
    transaction.on_commit(partial(_published, info.partition_id(partition)), robust=True)


def _published(partition_id: int) -> None:
    metrics.records_published.inc()
    wakeup.announce_partitions([partition_id])


def _partition(info: TopicInfo, number: int, key: bytes | None) -> int:
    """The same number; where there is none (the source grew just now), the key decides, as in Spring."""
    count = len(info.partition_ids)
    if number < count:
        return number
    return info.choose()(key, count) if key else number % count


def headers(
    delivery: Delivery, reason: str, failure: Failure | None, dead_letter_id: int | None = None
) -> dict[str, str]:
    """The headers of the record on the dead-letter topic.

    Of a record that dies once more, the newest death is told. The exception's message and stack trace are cut, and at
    last left out, to keep within what a record's headers may have together; the record's own never are.
    """
    record = delivery.record
    made = without_own(record.headers)
    for name in _EXCEPTION_HEADERS:
        made.pop(name, None)
    made |= {
        f"{_DLT}original-topic": record.topic,
        f"{_DLT}original-partition": str(record.partition),
        f"{_DLT}original-offset": str(record.offset),
        f"{_DLT}original-timestamp": str(record.timestamp),
        f"{_DLT}original-timestamp-type": "CreateTime",
        f"{_DLT}original-consumer-group": delivery.group,
        f"{OWN_PREFIX}reason": reason,
    }
    if dead_letter_id is not None:
        made[f"{OWN_PREFIX}dead-letter-id"] = str(dead_letter_id)
    if failure is None:
        return made
    fqcn, cause_fqcn, message, stacktrace = _EXCEPTION_HEADERS
    made[fqcn] = failure.exception_class
    if failure.cause_class:
        made[cause_fqcn] = failure.cause_class
    _add_within_limit(made, message, failure.message, _MESSAGE_BYTES, 1)
    _add_within_limit(made, stacktrace, failure.stacktrace, MAX_HEADER_BYTES, _LEAST_TRACE_BYTES)
    return made


def _add_within_limit(made: dict[str, str], name: str, text: str, most: int, least: int) -> None:
    used = len(name) + sum(len(each.encode()) + len(made[each].encode()) for each in made)
    room = min(most, MAX_HEADER_BYTES - used)
    if room >= least:
        made[name] = storable(text, room)
