"""What feeds and broadcasts deliver, and to whom: the one interface between the hub and its surfaces.

A `Batch` is what one tick delivers; STOMP, SockJS and SSE each encode it once for all subscribers alike (`made`), so
that a delivery costs one write. Pure: knows no protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from brokers.errors import BrokerError
from brokers.record import Record


class RecordEvent(NamedTuple):
    """A record of a topic on its way to subscribers."""

    record: Record
    token: str
    """The position right after it, for whoever received all before it (see `positions`)."""
    gap: int | None = None
    """The first offset left in its partition, when retention removed what should have come before this record."""


class BroadcastEvent(NamedTuple):
    """A message to those subscribed now."""

    destination: str
    body: bytes
    content_type: str
    headers: Mapping[str, str]
    message_id: str


Event = RecordEvent | BroadcastEvent


@dataclass(slots=True)
class Batch:
    """Events delivered together, with what was encoded of them so far."""

    events: Sequence[Event]
    made: dict[Hashable, bytes] = field(default_factory=dict)

    def encoded(self, key: Hashable, make: Callable[[Sequence[Event]], bytes]) -> bytes:
        """The bytes for subscribers of this kind, made once; `key` names all that they depend on."""
        found = self.made.get(key)
        if found is None:
            found = self.made[key] = make(self.events)
        return found


class Subscriber(Protocol):
    """One subscription of one connection."""

    def take(self, batch: Batch) -> None:
        """Delivers at once; never waits, never raises. A connection that cannot take it is ended by itself."""

    async def take_waiting(self, batch: Batch) -> bool:
        """Delivers when the connection has room: for catching up. False once the connection has ended."""

    def stop(self, error: BrokerError) -> None:
        """Ends the subscription and its connection with this error."""
