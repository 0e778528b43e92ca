"""What all subscriptions of STOMP share, and what they need of their session.

`subscribing` makes them, the session keeps them by their id and ends them, `settling` finds the one that an ACK or a
NACK speaks of.
"""

from __future__ import annotations

import itertools
from typing import Final, Protocol

from brokers.access import Principal
from realtime.connections import Connection
from realtime.errors import ProtocolError
from realtime.hub import LiveHub
from realtime.stomp.frame import Frame
from realtime.subscription_positions import SubscriptionPosition

AUTO: Final = "auto"
CLIENT: Final = "client"
CLIENT_INDIVIDUAL: Final = "client-individual"
ACK_MODES: Final = (AUTO, CLIENT, CLIENT_INDIVIDUAL)
_serials = itertools.count(1)


class Context(Protocol):
    """The session, as sending and subscribing see it."""

    @property
    def connection(self) -> Connection:
        """What it writes to."""

    @property
    def principal(self) -> Principal:
        """Who it is, as of the last look at what that one may do."""

    @property
    def version(self) -> str:
        """The version of STOMP agreed on."""

    @property
    def live(self) -> LiveHub:
        """What the sessions of this process share."""

    def subscription(self, name: str) -> Subscription | None:
        """Its subscription of that id."""

    def check_room(self, name: str) -> None:
        """Raises `ProtocolError` unless it may have a new subscription of that id."""

    async def adopt(self, name: str, subscription: Subscription) -> None:
        """Keeps a new subscription by its id."""


class Subscription:
    """One subscription of one session."""

    has_claims = False
    """What it delivers must be settled."""

    def __init__(self, context: Context, frame: Frame, destination: str) -> None:
        self.context = context
        self.connection = context.connection
        self.version = context.version
        self.destination = destination
        self.id = frame.headers.get("id", "")
        """As the client named it; empty where a client of STOMP 1.0 did not."""
        self.serial = next(_serials)
        """A number of its own among all subscriptions of this process."""
        self.mode = ack_mode(frame)

    @property
    def description(self) -> str:
        """For people."""
        return self.destination

    def position(self) -> SubscriptionPosition:
        """Where it stands, for whoever watches the connection; what is broadcast has no position."""
        return SubscriptionPosition(self.id, self.description, "broadcast", ack=self.mode)

    def check_rights(self) -> None:
        """Raises `AccessDenied` when the session's principal may not read it any more."""

    async def settle(self, number: int | None, frame: Frame) -> None:
        """Does what an ACK or a NACK says of the delivery of that number.

        What topics and broadcasts deliver needs no settling: a position is the client's own.
        """

    async def unsubscribe(self) -> None:
        """Ends it; the session goes on. Messages that were not settled go back."""
        await self.close()

    async def close(self) -> None:
        """Ends it at the end of the session; messages that were not settled go back. Never raises."""


def ack_mode(frame: Frame) -> str:
    """How messages are acknowledged; raises `ProtocolError` (STOMP 1.2, SUBSCRIBE ack Header)."""
    mode = frame.headers.get("ack", AUTO)
    if mode not in ACK_MODES:
        raise ProtocolError(f"ack is one of {', '.join(ACK_MODES)}", "invalid_ack_mode")
    return mode
