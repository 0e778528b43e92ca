"""SEND: to a topic of the log, a plain broadcast, a queue, an exchange, a message mapping or a user.

What goes to a topic, a queue or an exchange is on disk when `send` returns, so that a RECEIPT means stored. Called by
the session, for one frame after the other, and at COMMIT for those of a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from brokers.access import authorize
from brokers.errors import TopicNotFound
from brokers.outgoing import Outgoing
from brokers.queues import sending, tending
from brokers.topics import TopicInfo
from realtime import announcing, destinations, invoking, patterns
from realtime.errors import ProtocolError
from realtime.stomp import bodies, outgoing_messages, queue_subscription
from realtime.stomp.frame import Frame
from realtime.stomp.subscription import Context
from realtime.threads import in_thread


async def send(context: Context, frame: Frame) -> None:
    """Delivers a frame; stored, where it is to be stored, when this returns.

    Raises `ProtocolError`, `AccessDenied`, and what the destination raises for what it does not take.
    """
    text = frame.headers.get("destination")
    if not text:
        raise ProtocolError("SEND needs a destination", "missing_destination")
    match destinations.parse(text):
        case destinations.Topic() as topic:
            await _send_to_topic(context, frame, topic)
        case destinations.Broadcast(destination, is_pattern, name):
            if is_pattern:
                raise ProtocolError("nothing can be sent to a pattern", "invalid_destination")
            authorize(context.principal, "write", "topic", name)
            announcing.announce(destination, *bodies.of_broadcast(frame))
        case destinations.Queue(name) as queue:
            authorize(context.principal, "write", "queue", name)
            await queue_subscription.declared(context.principal, queue)
            await _send_to_exchange(context, frame, "", name)
        case destinations.Exchange(name, key):
            authorize(context.principal, "write", "exchange", name)
            await _send_to_exchange(context, frame, name, key)
        case destinations.App(route):
            await invoking.invoke(route, frame, context.principal, context.connection.id)
        case destinations.UserOwn(path):
            _send_to_user(frame, context.principal.user_name(), path)
        case destinations.UserOther(user, path):
            if user != context.principal.user_name():
                authorize(context.principal, "write", "user", user)
            _send_to_user(frame, user, path)
        case _:
            raise ProtocolError(f"nothing can be sent to {text}", "invalid_destination")


async def send_many(context: Context, frames: Sequence[Frame]) -> None:
    """Delivers frames in order; those before one that is refused stay delivered."""
    for frame in frames:
        await send(context, frame)


async def _send_to_topic(context: Context, frame: Frame, topic: destinations.Topic) -> None:
    authorize(context.principal, "write", "topic", topic.name)
    info = await context.live.plain.topic(topic.name)
    if info is not None:
        try:
            await _publish(context, frame, info)
            return
        except TopicNotFound:  # deleted meanwhile
            if await context.live.plain.topic(topic.name) is not None:
                raise
    announcing.announce(topic.destination, *bodies.of_broadcast(frame))


async def _publish(context: Context, frame: Frame, info: TopicInfo) -> None:
    row, partition = bodies.of_record(frame)
    outgoing = Outgoing([row], None if partition is None else [partition])
    await context.live.coalescer.publish(info, outgoing)


async def _send_to_exchange(context: Context, frame: Frame, exchange: str, key: str) -> None:
    message = outgoing_messages.message_of(frame, key)
    published = await sending.apublish_messages(exchange, [message])
    for queue in published.crowded:
        await in_thread(tending.enforce_length, queue)


def _send_to_user(frame: Frame, user: str, path: str) -> None:
    if patterns.is_pattern(path):
        raise ProtocolError("nothing can be sent to a pattern", "invalid_destination")
    announcing.announce(announcing.user_destination(user, path), *bodies.of_broadcast(frame))
