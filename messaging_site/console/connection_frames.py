"""The last frames of a connection as lines of its page: who may see what of them, and in which words.

What a frame carries belongs to the topic, queue or exchange that it is about: without `view_payload` (or `read`) on it,
bodies are not shown, nor headers but those of the protocol. Secrets were masked where they were recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.http import HttpRequest

from messaging_site.console.failure_words import Word
from messaging_site.console.permissions import may, sees_everything
from realtime import destinations
from realtime.errors import ProtocolError
from realtime.frame_recorder import FrameReport

Resource = tuple[str, str]
"""Type and name of what a permission is granted on."""

SENT: Final = Word("next", "info", "to client")
RECEIVED: Final = Word("previous", "mute", "from client")
FAILED: Final = Word("warn", "bad", "to client")
_OWN_BODIES: Final = frozenset({"ERROR", "connected", "error", "ended", "gap"})
"""What the server says itself."""
_WRITTEN: Final = frozenset(
    {
        "ack",
        "content-length",
        "content-type",
        "delivery-count",
        "destination",
        "gap",
        "message-id",
        "offset",
        "partition",
        "priority",
        "redelivered",
        "subscription",
        "timestamp",
        "tombstone",
    }
)
"""Headers of a MESSAGE that are the server's, not the publisher's."""
_PROTOCOL_HEADERS: Final = _WRITTEN | frozenset(
    {
        "accept-version",
        "heart-beat",
        "host",
        "id",
        "message",
        "prefetch-count",
        "receipt",
        "receipt-id",
        "requeue",
        "resume",
        "server",
        "session",
        "transaction",
        "user-name",
        "version",
    }
)
"""Headers of all other frames that say nothing of what they carry."""


@dataclass(frozen=True, slots=True)
class FrameRow:
    """One frame as a line."""

    number: int
    at: datetime
    direction: Word
    command: str
    destination: str
    """Where to, or what its subscription is subscribed to; empty where it is about neither."""
    size: int
    headers: list[tuple[str, str]]
    hidden_headers: int
    """How many are not shown to the operator, for want of the permission."""
    more_headers: int
    """How many were not recorded."""
    body: str
    """The first bytes as text, or as hex."""
    rest: int
    """Bytes of the body that were not recorded."""
    lacks: str
    """What the operator lacks to see headers and body; empty where nothing is hidden."""


def rows(request: HttpRequest, frames: Sequence[FrameReport]) -> list[FrameRow]:
    """The frames, the newest first, as the signed-in user may see them."""
    known: dict[Resource | None, str] = {}

    def lacks(resource: Resource | None) -> str:
        if resource not in known:
            known[resource] = _lacks(request, resource)
        return known[resource]

    return [_row(frame, lacks(resource_of(frame))) for frame in reversed(frames)]


def resource_of(frame: FrameReport) -> Resource | None:
    """What a permission to see the frame is granted on; None if there is no such thing, as of a user's own messages."""
    if frame.subscribed is not None and frame.destination is None:
        kind, _, name = frame.subscribed.partition(" ")  # a stream, as `TopicStream` describes it
        return ("topic", name) if kind == "topic" else None
    found = _of_destination(frame.destination)
    if frame.command == "MESSAGE" and (found is None or found[0] != "topic"):
        return _of_destination(frame.subscribed)  # by way of an exchange its destination names no queue
    return found


def _of_destination(text: str | None) -> Resource | None:
    try:
        meant = destinations.parse(text or "")
    except ProtocolError:
        return None
    match meant:
        case destinations.Topic(name) | destinations.Broadcast(_, _, name):
            return "topic", name
        case destinations.Queue(name):
            return "queue", name
        case destinations.Exchange(name, _):
            return "exchange", name
        case _:
            return None


def _lacks(request: HttpRequest, resource: Resource | None) -> str:
    if sees_everything(request):
        return ""
    if resource is None:
        return "the rights of an administrator"
    if may(request, "view_payload", *resource) or may(request, "read", *resource):
        return ""
    return f"view_payload on {resource[0]} {resource[1]}"


def _row(frame: FrameReport, lacks: str) -> FrameRow:
    open_names = _WRITTEN if frame.command == "MESSAGE" else _PROTOCOL_HEADERS
    shown = {name: text for name, text in frame.headers.items() if not lacks or name in open_names}
    hides_body = bool(lacks) and frame.command not in _OWN_BODIES and frame.size > 0
    hidden = len(frame.headers) - len(shown)
    direction = RECEIVED if not frame.is_sent else FAILED if frame.command in ("ERROR", "error") else SENT
    return FrameRow(
        number=frame.number,
        at=datetime.fromtimestamp(frame.at, UTC),
        direction=direction,
        command=frame.command,
        destination=frame.destination or frame.subscribed or "",
        size=frame.size,
        headers=[(name, text) for name, text in shown.items() if name not in ("destination", "content-length")],
        hidden_headers=hidden,
        more_headers=frame.more_headers,
        body="" if hides_body else _text(frame.body),
        rest=0 if hides_body else max(0, frame.size - len(frame.body)),
        lacks=lacks if hides_body or hidden else "",
    )


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        if len(body) - error.start > 3 or error.reason != "unexpected end of data":
            return f"0x{body.hex(' ')}"
        return body[: error.start].decode()  # a cut may fall inside a character
