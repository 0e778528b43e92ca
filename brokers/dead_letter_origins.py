"""What a dead letter is made of: where something came from, who could not handle it, and its payload.

Filled in by whoever gives something up, for `dead_letters`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from brokers import dead_letter_headers


class Try(NamedTuple):
    """One attempt at a task, as a dead letter keeps it."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    """None when the worker was lost in it."""
    error: str
    exception_class: str
    stacktrace: str
    frames: Sequence[Mapping[str, Any]]
    delay_ms: int | None
    """The back-off after it."""
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where something that is given up came from, and who could not handle it."""

    source_kind: str
    """`topic`, `queue` or `task`."""
    source: str
    group: str = ""
    """The consumer group; empty for a queue or a task."""
    handler: str = ""
    group_id: int | None = None
    partition_id: int | None = None
    partition: int | None = None
    offset: int | None = None
    timestamp: int | None = None
    redelivery_id: int = 0
    exchange: str | None = None
    routing_key: str | None = None
    message_id: str | None = None
    correlation_id: str | None = None
    message_row: int | None = None
    """A message's row, whose attempts become the dead letter's."""
    envelope: bytes | None = None
    """A message's, as it died, encoded; a replay gives it back with all that it holds."""
    priority: int | None = None
    error: str = ""
    """What its consumer said of it where no exception was raised."""
    idempotency_key: str | None = None
    first_failed_at: datetime | None = None
    """When it first failed; by default when its first attempt ended, or now."""
    tries: tuple[Try, ...] = ()
    """The attempts at a task, oldest first; those at a record or message have tables of their own."""


def tries_parameters(origins: Sequence[Origin]) -> dict[str, Any]:
    """The attempts at tasks as a statement takes them; `try_places` are those of their origins, from 1."""
    placed = [(place, each) for place, origin in enumerate(origins, 1) for each in origin.tries]
    return {
        "try_places": [place for place, _ in placed],
        "try_numbers": [each.number for _, each in placed],
        "try_starts": [each.started_at for _, each in placed],
        "try_ends": [each.ended_at for _, each in placed],
        "try_errors": [each.error for _, each in placed],
        "try_classes": [each.exception_class for _, each in placed],
        "try_traces": [each.stacktrace for _, each in placed],
        "try_frames": [json.dumps(list(each.frames)) for _, each in placed],
        "try_delays": [each.delay_ms for _, each in placed],
        "try_workers": [each.worker for _, each in placed],
    }


class Payload(NamedTuple):
    """What was to be handled, as it was published; headers are text unless it is a message."""

    key: bytes | None
    value: bytes | None
    encoding: int
    headers: Mapping[str, Any]

    def size(self) -> int:
        """Bytes of key, value and headers."""
        return len(self.key or b"") + len(self.value or b"") + dead_letter_headers.size_of(self.headers)
