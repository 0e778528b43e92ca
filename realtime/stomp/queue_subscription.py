"""Subscriptions to queues: messages under claims, settled as the client's ack mode says.

The feed of the queue gives it as many messages as it has room for (`queue_feeds`), and they are written as the client
reads: a queue waits for its consumers, and so none of them is ever too slow for it. What was not settled goes back when
the subscription ends, without counting towards the delivery limit. With ack:auto a message is acknowledged when it has
been written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Final

from brokers.access import Principal, authorize
from brokers.audit import Actor
from brokers.errors import BrokerError, PreconditionFailed, QueueNotFound, Unavailable
from brokers.queues import claims, topology
from brokers.queues.claims import Claim
from brokers.queues.declaring import declare_queue
from brokers.queues.message import Message
from brokers.queues.topology import QueueInfo
from realtime import destinations
from realtime.errors import ProtocolError
from realtime.stomp import encoder, queue_arguments, queue_messages, settlements
from realtime.stomp.frame import Frame
from realtime.stomp.settlements import Settlement
from realtime.stomp.subscription import AUTO, CLIENT, Context, Subscription
from realtime.subscription_positions import SubscriptionPosition
from realtime.threads import in_thread

log = logging.getLogger("waystation.realtime")

PREFETCH: Final = 100
"""Messages under way to a client that says nothing, and the most where ack:auto settles them as they are written."""
MAX_PREFETCH: Final = 10_000
_PAYLOAD_BYTES: Final = 64 * 1024
"""Frames of one write, about."""
_LONGEST_ID: Final = 100


async def begin(context: Context, frame: Frame, text: str, wanted: destinations.Queue) -> Subscription:
    """Subscribes to a queue, declaring it when it is missing.

    Raises `AccessDenied`, `QueueNotFound`, `PreconditionFailed`, `ProtocolError` and `Unavailable`.
    """
    authorize(context.principal, "read", "queue", wanted.name)
    prefetch = prefetch_count(frame)
    queue = await declared(context.principal, wanted, frame)
    made = QueueSubscription(context, frame, text, queue, prefetch)
    await made.join()
    return made


async def begin_exchange(context: Context, frame: Frame, text: str, wanted: destinations.Exchange) -> Subscription:
    """Subscribes to an exchange through a temporary queue, which goes with the subscription.

    Raises `AccessDenied`, `ExchangeNotFound`, `InvalidValue`, `ProtocolError` and `Unavailable`.
    """
    authorize(context.principal, "read", "exchange", wanted.name)
    prefetch = prefetch_count(frame)
    queue = await context.live.temporary_queues.make(wanted.name, wanted.key)
    made = QueueSubscription(context, frame, text, queue, prefetch, read=("exchange", wanted.name))
    await join_temporary(made)
    return made


async def join_temporary(made: QueueSubscription) -> None:
    """Begins a subscription to a temporary queue, which goes if that fails."""
    try:
        await made.join()
    except BaseException:
        made.context.live.temporary_queues.discard(made.queue.name)
        raise


async def declared(principal: Principal, wanted: destinations.Queue, frame: Frame) -> QueueInfo:
    """The queue, declared now if it is missing, as the frame's headers say.

    Those headers mean nothing for a queue that is there. Raises `QueueNotFound`, `AccessDenied`, `InvalidValue` and
    `ProtocolError`.
    """
    try:
        return await topology.aqueue(wanted.name)
    except QueueNotFound:
        if wanted.must_exist:
            raise
    authorize(principal, "create", "queue", wanted.name)
    settings = queue_arguments.settings_of(frame)
    dead_letter_exchange = settings.get("dead_letter_exchange")
    if dead_letter_exchange is not None:  # the default one too, which leads to any queue
        authorize(principal, "write", "exchange", dead_letter_exchange)
    try:
        await in_thread(partial(declare_queue, wanted.name, actor=Actor(principal.actor_name(), "stomp"), **settings))
    except PreconditionFailed:
        log.info("a queue was declared by another at the same time", extra={"queue": wanted.name})
    return await topology.aqueue(wanted.name)


def prefetch_count(frame: Frame) -> int:
    """The header `prefetch-count`; 0 means as many as there may be at most. Raises `ProtocolError`."""
    text = frame.headers.get("prefetch-count", str(PREFETCH))
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= MAX_PREFETCH):
        raise ProtocolError(f"prefetch-count is 0 to {MAX_PREFETCH}", "invalid_prefetch_count")
    return int(text) or MAX_PREFETCH


class QueueSubscription(Subscription):
    """A consumer of one queue."""

    has_claims = True

    def __init__(
        self,
        context: Context,
        frame: Frame,
        destination: str,
        queue: QueueInfo,
        prefetch: int,
        *,
        read: tuple[str, str] | None = None,
        is_own: bool = False,
    ) -> None:
        super().__init__(context, frame, destination)
        self.queue = queue
        self.prefetch = prefetch
        self.name = f"{context.connection.id}/{self.id[:_LONGEST_ID]}/{self.serial}".replace("\0", "")
        """As the console shows who consumes the queue and who holds a message."""
        self._reads = read or ("queue", queue.name)
        """What it needs permission to read, all the time, unless the queue is its own."""
        self.is_own = is_own
        """The session's own queue for answers, and not one that a client has subscribed to."""
        self._held: dict[int, Claim] = {}
        """By the number of the delivery, oldest first."""
        self._acknowledged: dict[int, Claim] = {}
        """What the client has acknowledged and is about to be stored."""
        self._storing: asyncio.Task[None] | None = None
        self._number = 0
        self._delivering: asyncio.Task[None] | None = None
        self._acknowledging = False
        """What was written is being settled, with ack:auto."""
        self._ended = False

    def check_rights(self) -> None:
        """As of any subscription."""
        if not self.is_own:
            authorize(self.context.principal, "read", *self._reads)

    def position(self) -> SubscriptionPosition:
        """As of any subscription."""
        held = len(self._held) + len(self._acknowledged)
        return SubscriptionPosition(
            self.id,
            self.description,
            "queue",
            self.queue.name,
            self.mode,
            unacknowledged=held,
            prefetch=self.prefetch,
        )

    async def join(self) -> None:
        """Begins to receive. Raises `QueueNotFound` and `Unavailable`."""
        await self.context.live.queues.join(self.queue, self)

    # -- what the feed asks ---------------------------------------------------------------------------------------

    def room(self) -> int:
        """How many messages it takes now: none while it writes some, or waits for the client to read."""
        if self._ended or self.connection.ended or self._delivering is not None:
            return 0
        if self.mode == AUTO:
            return min(PREFETCH, self.prefetch)
        return self.prefetch - len(self._held)

    def take(self, messages: Sequence[Message]) -> None:
        """Begins to write messages."""
        numbered = list(enumerate(messages, self._number + 1))
        self._number += len(messages)
        self._held |= {number: Claim.of(message) for number, message in numbered}
        self._delivering = asyncio.create_task(self._deliver(numbered), name=f"deliver-{self.queue.name}")

    def held(self) -> Collection[Claim]:
        """What was delivered and is not settled."""
        return self._held.values()

    def stop(self, error: BrokerError) -> None:
        """Ends the connection with the error."""
        self._ended = True
        self.connection.fail(error)

    async def _deliver(self, messages: Sequence[tuple[int, Message]]) -> None:
        try:
            start = 0
            while start < len(messages) and await self.connection.space() and not self._ended:
                parts: list[bytes] = []
                size, end = 0, start
                while end < len(messages) and (not parts or size < _PAYLOAD_BYTES):
                    frame = queue_messages.message_frame(self.id, self.serial, self.mode, *messages[end])
                    parts.append(encoder.encode(frame, self.version))
                    size += len(parts[-1])
                    end += 1
                if not self.connection.write(b"".join(parts), end - start):
                    break
                if self.mode == AUTO:
                    await self._acknowledge_written(range(messages[start][0], messages[end - 1][0] + 1))
                start = end
        finally:
            self._delivering = None
            self.context.live.queues.look(self.queue)

    async def _acknowledge_written(self, numbers: Iterable[int]) -> None:
        written = [self._held[number] for number in numbers]
        self._acknowledging = True
        try:
            await claims.aack(self.queue, written)
        except Unavailable as error:
            log.info("messages come again: not acknowledged", extra={"queue": self.queue.name, "error": error.detail})
        finally:
            self._acknowledging = False
        for number in numbers:
            del self._held[number]

    # -- what the client says -------------------------------------------------------------------------------------

    async def settle(self, number: int | None, frame: Frame) -> None:
        """Removes, gives back or dead-letters what the frame means; stored when this returns, if it wants a receipt.

        ACKs that want none are gathered while others are stored. Raises `ProtocolError` and `Unavailable`.
        """
        wanted = self.settlement(number, frame)
        if wanted.kind == settlements.ACK and "receipt" not in frame.headers:
            self._acknowledged |= wanted.taken
            if self._storing is None:
                self._storing = asyncio.create_task(self._store(), name=f"acknowledge-{self.queue.name}")
        else:
            await self._stored()
            try:
                await settlements.asettle(wanted)
            except BaseException:
                self.put_back(wanted)
                raise
        self.context.live.queues.look(self.queue)

    def settlement(self, number: int | None, frame: Frame) -> Settlement:
        """What the frame means, taken from what is held; with ack:client all that was delivered before it, too.

        A NACK with `requeue:true` does not count towards the delivery limit. Raises `ProtocolError`.
        """
        kind = settlements.kind_of(frame)
        if self.mode == AUTO or number is None or number not in self._held:
            raise ProtocolError("this message was not delivered here, or is settled already", "unknown_ack")
        numbers = [number] if self.mode != CLIENT else [each for each in self._held if each <= number]
        wanted = Settlement(self.queue, kind, settlements.reason_of(frame), self.context.principal.name)
        wanted.taken = {each: self._held.pop(each) for each in numbers}
        return wanted

    def put_back(self, wanted: Settlement) -> None:
        """It was not settled after all; the session is about to end."""
        self._held |= wanted.taken

    async def _stored(self) -> None:
        """Returns once the acknowledgements that came are stored, or cannot be."""
        if self._storing is not None:
            await asyncio.wait([self._storing])

    async def _store(self) -> None:
        """Stores acknowledgements as long as there are any."""
        wanted = Settlement(self.queue, settlements.ACK)
        try:
            while self._acknowledged:
                wanted.taken, self._acknowledged = self._acknowledged, {}
                await settlements.asettle(wanted)
                wanted.taken = {}
        except BrokerError as error:
            self._acknowledged |= wanted.taken
            self.stop(error)
        finally:
            self._storing = None

    # -- its end --------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Gives back what is not settled; if the store is away, its lease runs out."""
        self._ended = True
        if self._delivering is not None:
            if not self._acknowledging:
                self._delivering.cancel()
            await asyncio.gather(self._delivering, return_exceptions=True)
        await self._stored()
        try:
            await self.context.live.queues.leave(self.queue, self)
            await claims.arequeue(self.queue, list((self._held | self._acknowledged).values()))
        except Unavailable as error:
            log.info("messages return later", extra={"queue": self.queue.name, "error": error.detail})
        self._held.clear()
        if self.queue.temporary:
            self.context.live.temporary_queues.discard(self.queue.name)
