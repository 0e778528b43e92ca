"""The console's words for live connections: how one stands, what carries it, which a filter leaves. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from messaging_site.console.failure_words import Word
from realtime.connection_details import ConnectionDetail
from realtime.connection_reports import ConnectionReport
from realtime.subscription_positions import PartitionPosition, SubscriptionPosition

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
OVER: Final = Word("mute", "mute", "Over")

AT_THE_END: Final = Word("ok", "ok", "At the end")
BEHIND: Final = Word("clock", "info", "Behind")
CATCHING_UP: Final = Word("info", "info", "Catching up")
CONSUMING: Final = Word("ok", "ok", "Consumes")
FULL: Final = Word("clock", "warn", "Has all it may")
_FILTERS: Final = {"": "", "partition": "one partition", "key": "one key"}


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """One subscription of a connection as a line."""

    id: str
    destination: str
    state: Word | None
    """None of what has no position: a broadcast, or a stream of something else than a topic."""
    details: str
    """Of the position, in words."""
    lag: int | None
    token: str
    partitions: list[PartitionPosition]
    more_partitions: int


def subscriptions(connection: ConnectionReport, detail: ConnectionDetail | None) -> list[SubscriptionRow]:
    """What a connection subscribed to, and where that stands as far as it is known."""
    known = {} if detail is None else {each.id: each for each in detail.positions}
    rows = [_subscription(each) for each in known.values()]
    rows += [
        SubscriptionRow(name, destination, None, "", None, "", [], 0)
        for name, destination in connection.subscriptions.items()
        if name not in known
    ]
    return rows


def _subscription(position: SubscriptionPosition) -> SubscriptionRow:
    state: Word | None = None
    details = ""
    if position.kind == "queue" and position.unacknowledged is not None and position.prefetch is not None:
        state = FULL if position.unacknowledged >= position.prefetch else CONSUMING
        details = f"{position.unacknowledged:,} of {position.prefetch:,} unacknowledged"
        if position.ack == "auto":
            details += ", settled when written"
    elif position.kind == "topic":
        state = CATCHING_UP if position.catching_up else BEHIND if position.lag else AT_THE_END
        details = _FILTERS[position.filter]
    return SubscriptionRow(
        id=position.id,
        destination=position.destination,
        state=state,
        details=details,
        lag=position.lag,
        token=position.token,
        partitions=position.partitions,
        more_partitions=position.partition_count - len(position.partitions),
    )


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
