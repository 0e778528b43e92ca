"""Where answers go: `reply-to:/temp-queue/{name}` is a queue of the session's own, subscribed to as it is first named.

Borrowed from RabbitMQ's plugin: answers come as MESSAGE whose `subscription` is `/temp-queue/{name}`, and whoever
answers sees `reply-to:/reply-queue/{queue}`. Called by SEND.
"""

from __future__ import annotations

from typing import Final

from realtime import destinations
from realtime.errors import ProtocolError
from realtime.stomp import queue_subscription
from realtime.stomp.frame import Frame
from realtime.stomp.queue_subscription import QueueSubscription
from realtime.stomp.subscription import Context

PREFIX: Final = "reply."
"""Names of such queues begin with it; nobody can guess the rest."""


async def queue_for(context: Context, reply_to: str) -> str:
    """The queue that `reply-to` names: as it is, or by a destination.

    Raises `ProtocolError`, for a temporary queue also when the session has as many subscriptions as it may, and
    `Unavailable`.
    """
    if not reply_to.startswith("/"):
        return reply_to
    match destinations.parse(reply_to):
        case destinations.Queue(name) | destinations.Reply(name):
            return name
        case destinations.TemporaryQueue():
            return await _own(context, reply_to)
        case _:
            raise ProtocolError(
                "reply-to is /temp-queue/{name}, /queue/{name} or a queue's name", "invalid_destination"
            )


async def _own(context: Context, reply_to: str) -> str:
    found = context.subscription(reply_to)
    if isinstance(found, QueueSubscription) and found.is_own:
        return found.queue.name
    context.check_room(reply_to)
    queue = await context.live.temporary_queues.make(prefix=PREFIX.rstrip("."))
    frame = Frame("SUBSCRIBE", {"id": reply_to, "destination": reply_to})
    made = QueueSubscription(context, frame, reply_to, queue, queue_subscription.PREFETCH, is_own=True)
    await queue_subscription.join_temporary(made)
    await context.adopt(reply_to, made)
    return queue.name
