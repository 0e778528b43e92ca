"""MESSAGE frames of what feeds and broadcasts deliver. Pure; subscriptions encode a batch once for all alike."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from brokers.record import JSON, Record
from realtime.stomp.encoder import header
from realtime.subscribers import BroadcastEvent, Event, RecordEvent

RESERVED: Final = frozenset(
    {
        "ack",
        "content-length",
        "destination",
        "gap",
        "key",
        "key-base64",
        "message-id",
        "offset",
        "partition",
        "subscription",
        "timestamp",
        "tombstone",
    }
)
"""Headers that the server writes: of a record's or a sender's own they are left out."""


def message_frames(events: Sequence[Event], version: str, subscription: str, *, with_ack: bool = False) -> bytes:
    """The MESSAGE frames of a batch, one after the other.

    An empty `subscription` is left out (STOMP 1.0). `with_ack` writes the header `ack` that STOMP 1.2 demands where the
    client settles messages; it is the message-id.
    """
    subscribed = header("subscription", subscription, version) if subscription else ""
    return b"".join(
        _record(event, version, subscribed, with_ack)
        if isinstance(event, RecordEvent)
        else _broadcast(event, version, subscribed, with_ack)
        for event in events
    )


def message(headers: Iterable[tuple[str, str]], body: bytes, version: str) -> bytes:
    """One MESSAGE frame of these headers, such as of a queue's message; `content-length` is added."""
    written = "".join([header(name, value, version) for name, value in headers])
    return _frame(written, body)


def _record(event: RecordEvent, version: str, subscribed: str, with_ack: bool) -> bytes:
    record = event.record
    value = record.value_bytes
    content_type = record.headers.get("content-type") or _content_type(record)
    gap = "" if event.gap is None else f"\ngap:{event.gap}"
    written = [
        header("destination", f"/topic/{record.topic}", version),
        subscribed,
        _identity(event.token, version, with_ack),
        header("content-type", content_type, version),
        f"\npartition:{record.partition}\noffset:{record.offset}\ntimestamp:{record.timestamp}{gap}",
    ]
    if record.key_bytes is not None:
        written.append(_key(record.key_bytes, version))
    if value is None:
        written.append("\ntombstone:true")
    written += _others(record.headers, version)
    return _frame("".join(written), value or b"")


def _broadcast(event: BroadcastEvent, version: str, subscribed: str, with_ack: bool) -> bytes:
    written = [
        header("destination", event.destination, version),
        subscribed,
        _identity(event.message_id, version, with_ack),
    ]
    if event.content_type:
        written.append(header("content-type", event.content_type, version))
    written += _others(event.headers, version)
    return _frame("".join(written), event.body)


def _identity(message_id: str, version: str, with_ack: bool) -> str:
    written = header("message-id", message_id, version)
    return written + header("ack", message_id, version) if with_ack and version == "1.2" else written


def _others(headers: Mapping[str, str], version: str) -> list[str]:
    return [
        header(name, value, version)
        for name, value in headers.items()
        if name not in RESERVED and name != "content-type"
    ]


def _key(key: bytes, version: str) -> str:
    try:
        return header("key", key.decode(), version)
    except UnicodeDecodeError:
        return f"\nkey-base64:{base64.b64encode(key).decode()}"


def _content_type(record: Record) -> str:
    return "application/json" if record.encoding == JSON else "application/octet-stream"


def _frame(written: str, body: bytes) -> bytes:
    return b"MESSAGE%b\ncontent-length:%d\n\n%b\0" % (written.encode("utf-8", "replace"), len(body), body)
