"""A topic and its listener: most records are handled, some fail once, some always, some are passed on."""

from __future__ import annotations

import os

from brokers import FixedBackOff, publish, topic, topic_listener
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
