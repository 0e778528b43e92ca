"""The console's words for live connections: how one stands, what carries it, which a filter leaves. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from messaging_site.console.failure_words import Word
from realtime.connection_reports import ConnectionReport

FILTERS: Final = (
    ("", "All"),
    ("stomp", "STOMP"),
    ("sse", "Server-sent events"),
    ("waiting", "Read too slowly"),
    ("troubled", "With an error"),
)
PROTOCOLS: Final = {"stomp": "STOMP", "sse": "Server-sent events"}
BEHIND_BYTES: Final = 64 * 1024
"""Bytes waiting for a client beyond which it is said to lag: an eighth of what ends the connection."""
LIMIT_BYTES: Final = 512 * 1024

OPEN: Final = Word("ok", "ok", "Open")
LAGGING: Final = Word("clock", "warn", "Reads too slowly")
TROUBLED: Final = Word("warn", "warn", "Had an error")
UNKNOWN: Final = Word("ring", "mute", "Not signed in")


def state(connection: ConnectionReport) -> Word:
    """How a connection stands."""
    if connection.buffered >= BEHIND_BYTES:
        return LAGGING
    if connection.last_error or connection.dropped:
        return TROUBLED
    return UNKNOWN if connection.principal is None else OPEN


def protocol(connection: ConnectionReport) -> str:
    """What it speaks and what carries that: `STOMP over websocket`."""
    name = PROTOCOLS.get(connection.protocol, connection.protocol)
    return name if connection.transport == connection.protocol else f"{name} over {connection.transport}"


def short(connection: ConnectionReport) -> str:
    """The same in a word, for lists: `STOMP`, `SSE`, `SockJS` where no WebSocket could be had."""
    if connection.protocol == "stomp" and connection.transport.startswith("sockjs"):
        return "SockJS"
    return connection.protocol.upper()


def connected_at(connection: ConnectionReport) -> datetime:
    """When it began."""
    return datetime.fromtimestamp(connection.connected_at, UTC)


def matches(connection: ConnectionReport, text: str, only: str) -> bool:
    """Whether a filter leaves it: `only` is one of `FILTERS`, `text` is part of what is known of it."""
    if only in PROTOCOLS and connection.protocol != only:
        return False
    if only == "waiting" and connection.buffered < BEHIND_BYTES:
        return False
    if only == "troubled" and not (connection.last_error or connection.dropped):
        return False
    return not text or any(text in known.lower() for known in _known(connection))


def _known(connection: ConnectionReport) -> list[str]:
    return [
        connection.id,
        connection.principal or "",
        connection.token_id or "",
        connection.address,
        connection.user_agent,
        *connection.subscriptions.values(),
    ]
