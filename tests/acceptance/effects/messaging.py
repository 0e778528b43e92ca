"""A topic and a queue with their listeners: most is handled, some fails once, some always, some is passed on."""

from __future__ import annotations

import os

from brokers import FixedBackOff, binding, exchange, publish, queue, queue_listener, send, topic, topic_listener
from brokers.queues.message import Message
from brokers.record import Record
from tests.acceptance.effects.models import Effect

LEDGER = topic("ledger", partitions=4)
ECHOES = topic("echoes", partitions=2)
GROUP = "effects"


class Refused(Exception):
    """The record will never be accepted."""


class Passing(Exception):
    """The record will be accepted the next time."""


@topic_listener(
    LEDGER,
    group=GROUP,
    concurrency=2,
    max_poll_records=20,
    session_timeout_ms=2000,
    retry=FixedBackOff(interval_ms=20, max_retries=2),
    not_retryable=(Refused,),
)
def on_entry(record: Record) -> None:
    """Writes first and fails then, so that an effect that is not taken back shows."""
    name, kind = record.value["name"], record.value["kind"]
    Effect.objects.create(
        name=name,
        kind=kind,
        record_key=record.key or "",
        partition=record.partition,
        record_offset=record.offset,
        worker=os.getpid(),
    )
    if kind == "echo":
        publish(ECHOES, name, key=name)
    if kind == "flaky" and record.attempt == 1:
        raise Passing(f"entry {name} comes too early")
    if kind == "poison":
        raise Refused(f"entry {name} is refused")


DEAD_JOBS = exchange("dead-jobs", type="fanout")
JOBS = queue("jobs", dead_letter_exchange=DEAD_JOBS)
DEAD = queue("jobs.dead")
PASSED_ON = queue("jobs.passed-on")
binding(DEAD_JOBS, queue=DEAD)


@queue_listener(
    JOBS,
    prefetch=20,
    concurrency=2,
    lease_ms=2000,
    retry=FixedBackOff(interval_ms=20, max_retries=2),
    not_retryable=(Refused,),
)
def on_job(message: Message) -> None:
    """The same for messages of a queue."""
    name, kind = message.body["name"], message.body["kind"]
    Effect.objects.create(
        name=name, kind=kind, record_key="", partition=0, record_offset=message.id, worker=os.getpid()
    )
    if kind == "echo":
        send("", PASSED_ON, name)
    if kind == "flaky" and message.attempt == 1:
        raise Passing(f"job {name} comes too early")
    if kind == "poison":
        raise Refused(f"job {name} is refused")
