"""Writes what feeds and broadcasts deliver: encoded once for all subscriptions alike, and one write for each.

Called by the subscriptions.
"""

from __future__ import annotations

from collections.abc import Sequence

from realtime.stomp.messages import message_frames
from realtime.stomp.subscription import AUTO, Subscription
from realtime.subscribers import Batch, Event


def write(subscription: Subscription, batch: Batch) -> bool:
    """Delivers at once; a connection that has no room ends itself."""
    connection, version, name = subscription.connection, subscription.version, subscription.id
    if connection.ended:
        return False
    wrap, with_ack = connection.transport.wrap, subscription.mode != AUTO

    def make(events: Sequence[Event]) -> bytes:
        return wrap(message_frames(events, version, name, with_ack=with_ack))

    return connection.put(batch.encoded((wrap, version, name, with_ack), make), len(batch.events))


async def write_waiting(subscription: Subscription, batch: Batch) -> bool:
    """Delivers when there is room; False once the connection has ended."""
    return await subscription.connection.space() and write(subscription, batch)
