"""SEND: to a topic of the log, a plain broadcast, a queue, an exchange, a message mapping or a user.

What goes to a topic, a queue or an exchange is on disk when `send_many` returns, so that a RECEIPT means stored. Called
by the session's `outbox`; `committing` does the same with the frames of a transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from brokers.access import authorize
from brokers.codec import Row
from brokers.errors import BrokerError, QueueNotFound, TopicNotFound, Unavailable
from brokers.outgoing import Outgoing
from brokers.queues import sending, tending, topology
from brokers.queues.message import NewMessage
from brokers.topics import TopicInfo
from realtime import announcing, destinations, invoking, patterns
from realtime.errors import ProtocolError
from realtime.stomp import bodies, outgoing_messages, queue_subscription, replies
from realtime.stomp.frame import Frame
from realtime.stomp.subscription import Context
from realtime.threads import in_thread

_OF_REPLIES: Final = (replies.PREFIX, "answers.")
"""Temporary queues at which somebody waits for an answer; whoever was told their names may answer."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a topic."""

    info: TopicInfo
    row: Row
    partition: int | None
    frame: Frame

    @property
    def target(self) -> object:
        """What records have in common that are stored together."""
        return "topic", self.info.id

    @property
    def outgoing(self) -> Outgoing:
        """On its way alone."""
        return Outgoing([self.row], None if self.partition is None else [self.partition])


@dataclass(frozen=True, slots=True)
class Message:
    """A message to an exchange."""

    exchange: str
    message: NewMessage

    @property
    def target(self) -> object:
        """What messages have in common that are stored together."""
        return "exchange", self.exchange


@dataclass(frozen=True, slots=True)
class Call:
    """What is not stored: a broadcast, or a handler's call."""

    make: Callable[[], Awaitable[None]]

    @property
    def target(self) -> object:
        """Nothing is called together with another."""
        return "call", id(self)


Prepared = Record | Message | Call


async def send_many(context: Context, frames: Sequence[Frame]) -> tuple[int, BrokerError | None]:
    """Delivers frames in order, neighbours for the same topic or exchange in one step; errors are those of `prepare`.

    Answers how many are delivered, the first ones, and why the next was refused. What is to be stored is on disk then.
    """
    done = 0
    group: list[Prepared] = []
    refused: BrokerError | None = None
    for frame in frames:
        try:
            prepared = await prepare(context, frame)
        except BrokerError as error:
            refused = error
            break
        if group and prepared.target != group[0].target:
            delivered, failure = await _deliver_group(context, group)
            done += delivered
            if failure is not None:
                return done, failure
            group = []
        group.append(prepared)
    delivered, failure = await _deliver_group(context, group)
    return done + delivered, failure or refused


async def prepare(context: Context, frame: Frame) -> Prepared:
    """What a frame is to become, checked as far as it can be; a queue that is missing is declared.

    Raises `ProtocolError`, `AccessDenied`, and what the destination raises for what it does not take.
    """
    text = frame.headers.get("destination")
    if not text:
        raise ProtocolError("SEND needs the header destination", "missing_destination")
    principal = context.principal
    match destinations.parse(text):
        case destinations.Topic(name) as topic:
            authorize(principal, "write", "topic", name)
            info = await context.live.plain.topic(name)
            return (
                _broadcast(topic.destination, frame) if info is None else Record(info, *bodies.of_record(frame), frame)
            )
        case destinations.Broadcast(destination, is_pattern, name):
            if is_pattern:
                raise ProtocolError("nothing can be sent to a pattern", "invalid_destination")
            authorize(principal, "write", "topic", name)
            return _broadcast(destination, frame)
        case destinations.Queue(name) as queue:
            authorize(principal, "write", "queue", name)
            await queue_subscription.declared(principal, queue, frame)
            return await _message(context, frame, "", name)
        case destinations.Reply(name):
            await _authorize_reply(context, name)
            return await _message(context, frame, "", name)
        case destinations.Exchange(name, key):
            authorize(principal, "write", "exchange", name)
            await topology.aexchange(name)
            return await _message(context, frame, name, key)
        case destinations.App(route):
            return Call(partial(invoking.invoke, route, frame, principal, context.connection.id))
        case destinations.UserOwn(path):
            return _to_user(frame, principal.user_name(), path)
        case destinations.UserOther(user, path):
            if user != principal.user_name():
                authorize(principal, "write", "user", user)
            return _to_user(frame, user, path)
        case _:
            raise ProtocolError(f"nothing can be sent to {text}", "invalid_destination")


async def _deliver_group(context: Context, group: Sequence[Prepared]) -> tuple[int, BrokerError | None]:
    """Delivers what has the same target; what is refused is found by storing each alone. Answers as `send_many`."""
    if len(group) > 1:
        try:
            await _deliver(context, group)
            return len(group), None
        except Unavailable as error:
            return 0, error
        except BrokerError:
            pass
    for place, each in enumerate(group):
        try:
            await _deliver(context, [each])
        except BrokerError as error:
            return place, error
    return len(group), None


async def _deliver(context: Context, group: Sequence[Prepared]) -> None:
    match group[0]:
        case Record(info):
            await _publish(context, info, [each for each in group if isinstance(each, Record)])
        case Message(exchange):
            messages = [each.message for each in group if isinstance(each, Message)]
            published = await sending.apublish_messages(exchange, messages)
            for queue in published.crowded:
                await in_thread(tending.enforce_length, queue)
        case Call(make):
            await make()


async def _publish(context: Context, info: TopicInfo, records: Sequence[Record]) -> None:
    try:
        await context.live.coalescer.publish(info, Outgoing.joined([record.outgoing for record in records]))
    except TopicNotFound:  # deleted meanwhile
        if len(records) > 1 or await context.live.plain.topic(info.name) is not None:
            raise
        await _broadcast(f"/topic/{info.name}", records[0].frame).make()


def _broadcast(destination: str, frame: Frame) -> Call:
    announced = bodies.of_broadcast(frame)

    async def announce() -> None:
        if announcing.crowded():
            await announcing.room()
        announcing.announce(destination, *announced)

    return Call(announce)


def _to_user(frame: Frame, user: str, path: str) -> Call:
    if patterns.is_pattern(path):
        raise ProtocolError("nothing can be sent to a pattern", "invalid_destination")
    return _broadcast(announcing.user_destination(user, path), frame)


async def _message(context: Context, frame: Frame, exchange: str, key: str) -> Message:
    reply_to = frame.headers.get("reply-to")
    queue = None if reply_to is None else await replies.queue_for(context, reply_to)
    return Message(exchange, outgoing_messages.message_of(frame, key, queue))


async def _authorize_reply(context: Context, name: str) -> None:
    if name.startswith(_OF_REPLIES):
        try:
            if (await topology.aqueue(name)).temporary:
                return
        except QueueNotFound:
            return  # nobody waits any more
    authorize(context.principal, "write", "queue", name)
