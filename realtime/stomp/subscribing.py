"""SUBSCRIBE: from a destination to a subscription, if the caller may read it.

Called by the session, which has seen that the id is there and new. When `subscribe` returns the subscription receives
whatever is sent from then on, and so the receipt may go out.
"""

from __future__ import annotations

from brokers.access import authorize
from brokers.errors import TopicNotFound
from realtime import destinations
from realtime.errors import ProtocolError
from realtime.stomp import broadcast_subscription, queue_subscription, topic_subscription
from realtime.stomp.frame import Frame
from realtime.stomp.subscription import Context, Subscription

__all__ = ["Subscription", "subscribe"]


async def subscribe(context: Context, frame: Frame) -> Subscription:
    """Begins a subscription.

    Raises `ProtocolError`, `AccessDenied`, `TopicNotFound`, `QueueNotFound`, `ExchangeNotFound` and `Unavailable`.
    """
    text = frame.headers.get("destination")
    if not text:
        raise ProtocolError("SUBSCRIBE needs a destination", "missing_destination")
    match destinations.parse(text):
        case destinations.Topic(name):
            authorize(context.principal, "read", "topic", name)
            info = await context.live.plain.topic(name)
            if info is not None:
                return await topic_subscription.begin(context, frame, text, info)
            if topic_subscription.asks_for_records(frame):
                raise TopicNotFound(f"there is no topic {name}: a plain broadcast has no offsets")
            return await broadcast_subscription.begin_named(context, frame, text, name)
        case destinations.Broadcast() as wanted:
            return await broadcast_subscription.begin(context, frame, wanted)
        case destinations.UserOwn(path):
            return await broadcast_subscription.begin_own(context, frame, text, path)
        case destinations.Queue() as queue:
            return await queue_subscription.begin(context, frame, text, queue)
        case destinations.Exchange() as exchange:
            return await queue_subscription.begin_exchange(context, frame, text, exchange)
        case _:
            raise ProtocolError(f"nobody can subscribe to {text}", "invalid_destination")
