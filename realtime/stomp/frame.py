"""A STOMP frame as a value, and the commands there are. Pure; everything in `realtime.stomp` speaks of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

VERSIONS: Final = ("1.0", "1.1", "1.2")
CLIENT_COMMANDS: Final = frozenset(
    {
        "ABORT",
        "ACK",
        "BEGIN",
        "COMMIT",
        "CONNECT",
        "DISCONNECT",
        "NACK",
        "SEND",
        "STOMP",
        "SUBSCRIBE",
        "UNSUBSCRIBE",
    }
)
SERVER_COMMANDS: Final = frozenset({"CONNECTED", "ERROR", "MESSAGE", "RECEIPT"})
WITH_BODY: Final = frozenset({"ERROR", "MESSAGE", "SEND"})
"""Only these have a body (STOMP 1.2, Body)."""
HEART_BEAT: Final = b"\n"


@dataclass(slots=True)
class Frame:
    """One frame. Of headers that were repeated the first counts (STOMP 1.2, Repeated Header Entries)."""

    command: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
