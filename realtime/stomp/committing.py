"""COMMIT: all records, messages, acknowledgements and rejections of a STOMP transaction in one of the database.

So either all of it is stored or nothing, as for a consumer that publishes what it made of a message and acknowledges
that. What is not stored, broadcasts and handlers' calls, follows in order when the rest is on disk. Beyond STOMP 1.2
(COMMIT), and beyond RabbitMQ, which sends one frame after the other. Called by the session.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby

from django.db import transaction

from brokers.outgoing import Outgoing
from brokers.publishing import publish_outgoing
from brokers.queues import sending as queue_sending
from realtime.stomp import sending, settlements, settling
from realtime.stomp.frame import Frame
from realtime.stomp.queue_subscription import QueueSubscription
from realtime.stomp.settlements import Settlement
from realtime.stomp.subscription import Context, Subscription
from realtime.threads import in_thread


async def commit(context: Context, subscriptions: Collection[Subscription], frames: Sequence[Frame]) -> None:
    """Does what the frames say, SEND, ACK and NACK; stored when this returns, and nothing of it when it raises."""
    calls: list[sending.Call] = []
    stored: list[sending.Record | sending.Message] = []
    settled: list[tuple[QueueSubscription, Settlement]] = []
    try:
        for frame in frames:
            if frame.command == "SEND":
                prepared = await sending.prepare(context, frame)
                if isinstance(prepared, sending.Call):
                    calls.append(prepared)
                else:
                    stored.append(prepared)
                continue
            subscription, number = settling.find(context.version, subscriptions, frame)
            if isinstance(subscription, QueueSubscription):
                settled.append((subscription, subscription.settlement(number, frame)))
        if stored or settled:
            await in_thread(_store, stored, [settlement for _, settlement in settled])
    except BaseException:
        for subscription, settlement in settled:
            subscription.put_back(settlement)
        raise
    for subscription, _ in settled:
        context.live.queues.look(subscription.queue)
    for call in calls:
        await call.make()


def _store(stored: Sequence[sending.Record | sending.Message], settled: Sequence[Settlement]) -> None:
    """Messages come before acknowledgements: rows of queues are locked before those of messages."""
    with transaction.atomic():
        for _, some in groupby(stored, key=lambda each: each.target):
            _publish(list(some))
        for settlement in settled:
            settlements.settle(settlement)


def _publish(group: Sequence[sending.Record | sending.Message]) -> None:
    match group[0]:
        case sending.Message(exchange):
            messages = [each.message for each in group if isinstance(each, sending.Message)]
            queue_sending.publish_messages(exchange, messages)
        case sending.Record(info):
            records = [each.outgoing for each in group if isinstance(each, sending.Record)]
            publish_outgoing(info, Outgoing.joined(records))
