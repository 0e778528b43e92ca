"""One listener, as `BENCH_LISTENER` says; see `bench/listeners.py` and `bench/queues.py`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.handled.models import Handled
from brokers import queue_listener, topic_listener
from brokers.queues.message import Message
from brokers.record import Record

GROUP = "bench"
TOPIC = os.environ.get("BENCH_TOPIC", "bench-handled")
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "1"))


def row(record: Record) -> Handled:
    """The row of a record."""
    value = record.value
    return Handled(record_key=record.key or "", number=value["number"], text=value["text"], partition=record.partition)


def empty(record: Record) -> None:
    """Touches no database."""


def empty_batch(records: list[Record]) -> None:
    """Touches no database."""


def one_row(record: Record) -> None:
    """One INSERT by the ORM."""
    row(record).save(force_insert=True)


def rows(records: list[Record]) -> None:
    """One bulk_create for all."""
    Handled.objects.bulk_create([row(record) for record in records])


def failing(record: Record) -> None:
    """Fails for good."""
    raise ValueError(f"record {record.offset} is not wanted")


class Clock:
    """Notes how long each record took from when it was due, and writes all to a file at the last one."""

    def __init__(self, expected: int, output: Path) -> None:
        self._expected = expected
        self._output = output
        self._latencies: list[float] = []

    def __call__(self, value: dict[str, Any]) -> None:
        self._latencies.append((time.perf_counter_ns() - value["due"]) / 1e6)
        if len(self._latencies) == self._expected:
            self._output.write_text(json.dumps(self._latencies), encoding="utf-8")


_clock = Clock(int(os.environ.get("BENCH_EXPECTED", "0")), Path(os.environ.get("BENCH_OUTPUT", os.devnull)))


def timed(record: Record) -> None:
    """Notes when it was called."""
    _clock(record.value)


def timed_message(message: Message) -> None:
    """Notes when it was called."""
    _clock(message.body)


def message_row(message: Message) -> None:
    """One INSERT by the ORM."""
    value = message.body
    Handled(record_key="", number=value["number"], text=value["text"]).save(force_insert=True)


_HANDLERS: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
    "empty": (empty, {}),
    "empty batch": (empty_batch, {"batch": True}),
    "row": (one_row, {}),
    "row, ack_mode record": (one_row, {"ack_mode": "record"}),
    "rows": (rows, {"batch": True}),
    "failing": (failing, {"not_retryable": (ValueError,)}),
    "timed": (timed, {}),
}

_MESSAGE_HANDLERS: dict[str, Callable[[Message], None]] = {"timed message": timed_message, "message row": message_row}

chosen = os.environ.get("BENCH_LISTENER", "")
if chosen in _MESSAGE_HANDLERS:
    queue_listener(TOPIC, prefetch=100, concurrency=CONCURRENCY, name=f"bench.{chosen}")(_MESSAGE_HANDLERS[chosen])
elif chosen:
    handler, options = _HANDLERS[chosen]
    options = {"max_poll_records": 100, **options}
    if chosen.startswith("empty"):
        options["max_poll_records"] = 1000
    topic_listener(TOPIC, group=GROUP, concurrency=CONCURRENCY, name=f"bench.{chosen}", **options)(handler)
