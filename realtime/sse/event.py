"""Server-sent events as bytes (WHATWG HTML, 9.2.5 and 9.2.6). Pure.

Names of events are those below, ids are made by the server, and data is one JSON text: nothing that a publisher writes
can end an event or begin another.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from brokers.record_json import record_json
from realtime.subscribers import Event, RecordEvent

Name = Literal["connected", "record", "gap", "notification", "progress", "completed", "failed", "error"]

RETRY_MS: Final = 3000
"""How long a browser waits before it connects again."""
ERROR_RETRY_MS: Final = 30_000
"""The same after an error that connecting again is not likely to mend."""
_BUSY_RETRY_MS: Final = (1000, 5000)
KEEP_ALIVE: Final = b": keep-alive\n\n"
_BREAK: Final = re.compile(rb"\r\n|\r|\n")
_NOT_IN_IDS: Final = re.compile(r"[\0\r\n]")

to_json = msgspec.json.Encoder().encode
"""The JSON text of data that the server makes."""


def event(name: Name, data: bytes, event_id: str | None = None) -> bytes:
    """One event. Data of several lines comes as several `data` fields, which a client joins again.

    Raises ValueError for an id that would not be one.
    """
    if b"\n" in data or b"\r" in data:
        data = _BREAK.sub(b"\ndata: ", data)
    if event_id is None:
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), _id_field(event_id), data)


def id_only(event_id: str) -> bytes:
    """Moves the client's last event id, and is no event to it: its data is empty."""
    return _id_field(event_id) + b"\n"


def _id_field(event_id: str) -> bytes:
    if _NOT_IN_IDS.search(event_id):
        raise ValueError(f"{event_id!r} cannot be the id of an event")
    return b"id: %b\n" % event_id.encode()


def retry(milliseconds: int) -> bytes:
    """How long to wait before connecting again, from now on."""
    return b"retry: %d\n\n" % milliseconds


def busy_retry_ms() -> int:
    """How long to wait for a server that stops or cannot answer now: not the same for all who wait."""
    return random.randint(*_BUSY_RETRY_MS)  # noqa: S311 - no secret


def records(events: Sequence[Event]) -> bytes:
    """Records as events, each after the gap that retention left before it."""
    made = []
    for found in events:
        assert isinstance(found, RecordEvent)
        record = found.record
        if found.gap is not None:
            made.append(gap(record.partition, found.gap))
        made.append(event("record", record_json(record), found.token))
    return b"".join(made)


def gap(partition: int, first_offset: int) -> bytes:
    """Retention removed what should have come; `first_offset` is the first that is left."""
    return event("gap", b'{"partition":%d,"first_offset":%d}' % (partition, first_offset))
