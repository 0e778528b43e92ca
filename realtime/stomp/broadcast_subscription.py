"""Subscriptions to plain broadcasts and to a user's own destinations, as Spring's simple broker has them.

A broadcast reaches those who are subscribed when it is sent, and nothing is stored.
"""

from __future__ import annotations

from typing import Final

from brokers.access import allowed, authorize
from brokers.errors import AccessDenied, BrokerError
from realtime import destinations, patterns
from realtime.errors import ProtocolError
from realtime.stomp import delivery
from realtime.stomp.frame import Frame
from realtime.stomp.subscription import Context, Subscription
from realtime.subscribers import Batch

_TOPIC = "/topic/"

_REMEMBERED: Final = 1000
"""Destinations that a pattern's subscription has looked at."""


async def begin_named(context: Context, frame: Frame, text: str, name: str) -> Subscription:
    """Subscribes to a name that no topic of the log has, and ends with an ERROR once one has; it is authorised."""
    made = BroadcastSubscription(context, frame, text, destinations.Topic(name).destination, reads=name, watches=True)
    context.live.plain.watch(name, made)
    await made.join()
    return made


async def begin(context: Context, frame: Frame, wanted: destinations.Broadcast) -> Subscription:
    """Subscribes to a path of several segments, or to a pattern. Raises `AccessDenied` and `InvalidValue`."""
    made = BroadcastSubscription(context, frame, wanted.destination, wanted.destination, reads=wanted.name)
    made.check_rights()
    await made.join()
    return made


async def begin_own(context: Context, frame: Frame, text: str, path: str) -> Subscription:
    """Subscribes to a destination of the user's own, on all of their sessions."""
    made = BroadcastSubscription(context, frame, text, path, user=context.principal.user_name())
    await made.join()
    return made


def may_read_pattern(context: Context, pattern: str) -> None:
    """Raises `AccessDenied` unless a grant by prefix covers all that can match, apart from what is denied."""
    principal, prefix = context.principal, patterns.literal_prefix(pattern)
    if principal.superuser:
        return
    for rule in principal.rules:
        if rule.match == "prefix" and rule.covers("topic", prefix) and rule.allows("read"):
            return
    raise AccessDenied(f"read on topics that begin with {prefix!a} is not granted to {principal.name}")


class BroadcastSubscription(Subscription):
    """A subscription to one destination or pattern."""

    def __init__(
        self,
        context: Context,
        frame: Frame,
        text: str,
        listens_to: str,
        *,
        reads: str = "",
        watches: bool = False,
        user: str | None = None,
    ) -> None:
        super().__init__(context, frame, text)
        self._listens_to = listens_to
        self._reads = reads
        """The name or pattern that permission is needed for; none is for a user's own."""
        self._watches = watches
        """It ends when a topic of the log gets the name."""
        self._user = user
        self._is_pattern = user is None and patterns.is_pattern(listens_to)
        self._may: dict[str, bool] = {}

    def check_rights(self) -> None:
        """As of any subscription."""
        self._may.clear()
        if self._is_pattern:
            may_read_pattern(self.context, self._reads)
        elif self._user is None:
            authorize(self.context.principal, "read", "topic", self._reads)

    async def join(self) -> None:
        """Begins to receive."""
        allowed = self._may_be_delivered if self._is_pattern else None
        await self.context.live.broadcasts.subscribe(self._listens_to, self, self._user, allowed)

    def take(self, batch: Batch) -> None:
        """Delivers at once."""
        delivery.write(self, batch)

    async def take_waiting(self, batch: Batch) -> bool:
        """Delivers when there is room."""
        return await delivery.write_waiting(self, batch)

    def stop(self, error: BrokerError) -> None:
        """Ends the connection with the error."""
        self.connection.fail(error)

    async def close(self) -> None:
        """Receives nothing more."""
        self.context.live.broadcasts.unsubscribe(self._listens_to, self, self._user)
        if self._watches:
            self.context.live.plain.forget(self._reads, self)

    def _may_be_delivered(self, destination: str) -> bool:
        """Whether the caller may read what goes to this destination; remembered while its rights are the same."""
        found = self._may.get(destination)
        if found is None:
            found = self._may_read(destination)
            if len(self._may) >= _REMEMBERED:
                self._may.clear()
            self._may[destination] = found
        return found

    def _may_read(self, destination: str) -> bool:
        try:
            meant = destinations.parse(destination)
        except ProtocolError:
            return False
        return isinstance(meant, destinations.Topic | destinations.Broadcast) and allowed(
            self.context.principal, "read", "topic", meant.name
        )
