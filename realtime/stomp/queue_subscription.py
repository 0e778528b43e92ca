"""Subscriptions to queues: messages under claims, settled as the client's ack mode says.

The feed of the queue gives it as many messages as it has room for (`queue_feeds`), and they are written as the client
reads: a queue waits for its consumers, and so none of them is ever too slow for it. What was not settled goes back when
the subscription ends, without counting towards the delivery limit. With ack:auto a message is acknowledged when it has
been written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Final

from brokers.access import Principal, allowed, authorize
from brokers.errors import AccessDenied, BrokerError, QueueNotFound, Unavailable
from brokers.queues import claims, dead_lettering, topology
from brokers.queues.claims import Claim
from brokers.queues.declaring import declare_queue
from brokers.queues.message import Message
from brokers.queues.topology import QueueInfo
from realtime import destinations
from realtime.errors import ProtocolError
from realtime.stomp import encoder, queue_messages
from realtime.stomp.frame import Frame
from realtime.stomp.subscription import AUTO, CLIENT, Context, Subscription
from realtime.threads import in_thread

log = logging.getLogger("waystation.realtime")

PREFETCH: Final = 100
"""Messages under way to a client that says nothing, and the most where ack:auto settles them as they are written."""
MAX_PREFETCH: Final = 10_000
_LONGEST_REASON: Final = 1000
_PAYLOAD_BYTES: Final = 64 * 1024
"""Frames of one write, about."""
_LONGEST_ID: Final = 100


async def begin(context: Context, frame: Frame, text: str, wanted: destinations.Queue) -> Subscription:
    """Subscribes to a queue, declaring it when it is missing.

    Raises `AccessDenied`, `QueueNotFound`, `PreconditionFailed`, `ProtocolError` and `Unavailable`.
    """
    authorize(context.principal, "read", "queue", wanted.name)
    prefetch = prefetch_count(frame)
    queue = await declared(context.principal, wanted)
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
    try:
        await made.join()
    except BaseException:
        context.live.temporary_queues.discard(queue.name)
        raise
    return made


async def declared(principal: Principal, wanted: destinations.Queue) -> QueueInfo:
    """The queue, declared now if it is missing and may be.

    Raises `QueueNotFound` and `AccessDenied`.
    """
    try:
        return await topology.aqueue(wanted.name)
    except QueueNotFound:
        if wanted.must_exist:
            raise
    authorize(principal, "create", "queue", wanted.name)
    await in_thread(declare_queue, wanted.name)
    return await topology.aqueue(wanted.name)


def prefetch_count(frame: Frame) -> int:
    """The header `prefetch-count`; 0 means as many as there may be at most. Raises `ProtocolError`."""
    text = frame.headers.get("prefetch-count", str(PREFETCH))
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= MAX_PREFETCH):
        raise ProtocolError(f"prefetch-count is 0 to {MAX_PREFETCH}", "invalid_prefetch_count")
    return int(text) or MAX_PREFETCH


class QueueSubscription(Subscription):
    """A consumer of one queue."""

    def __init__(
        self,
        context: Context,
        frame: Frame,
        destination: str,
        queue: QueueInfo,
        prefetch: int,
        *,
        read: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(context, frame, destination)
        self.queue = queue
        self.prefetch = prefetch
        self.name = f"{context.connection.id}/{self.id[:_LONGEST_ID]}/{self.serial}".replace("\0", "")
        """As the console shows who consumes the queue and who holds a message."""
        self._reads = read or ("queue", queue.name)
        """What it needs permission to read, all the time."""
        self._held: dict[int, Claim] = {}
        """By the number of the delivery, oldest first."""
        self._number = 0
        self._delivering: asyncio.Task[None] | None = None
        self._ended = False

    async def join(self) -> None:
        """Begins to receive. Raises `QueueNotFound` and `Unavailable`."""
        await self.context.live.queues.join(self.queue, self)

    # -- what the feed asks ---------------------------------------------------------------------------------------

    def room(self) -> int:
        """How many messages it takes now: none while it writes some, or waits for the client to read."""
        if self._ended or self.connection.ended or self._delivering is not None:
            return 0
        if not allowed(self.context.principal, "read", *self._reads):
            self.stop(AccessDenied(f"read on {' '.join(self._reads)} is not granted any more"))
            return 0
        if self.mode == AUTO:
            return min(PREFETCH, self.prefetch)
        return self.prefetch - len(self._held)

    def take(self, messages: Sequence[Message]) -> None:
        """Begins to write messages."""
        numbered = []
        for message in messages:
            self._number += 1
            self._held[self._number] = Claim.of(message)
            numbered.append((self._number, message))
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
                payload, end = b"", start
                while end < len(messages) and (end == start or len(payload) < _PAYLOAD_BYTES):
                    payload += encoder.encode(queue_messages.message_frame(self, *messages[end]), self.context.version)
                    end += 1
                if not self.connection.write(payload, end - start):
                    break
                if self.mode == AUTO:
                    await self._acknowledge_written(messages[start][0], messages[end - 1][0])
                start = end
        finally:
            self._delivering = None
            self.context.live.queues.look(self.queue)

    async def _acknowledge_written(self, first: int, last: int) -> None:
        wanted = [self._held[number] for number in range(first, last + 1)]
        try:
            await claims.aack(self.queue, wanted)
        except Unavailable as error:
            log.info("messages come again: not acknowledged", extra={"queue": self.queue.name, "error": error.detail})
        for number in range(first, last + 1):
            del self._held[number]

    # -- what the client says -------------------------------------------------------------------------------------

    async def acknowledge(self, number: int | None) -> None:
        """Removes the message of that delivery, and with ack:client all that were delivered before it."""
        await self._settle(number, None)

    async def refuse(self, number: int | None, frame: Frame) -> None:
        """Dead-letters, or with `requeue:true` gives back, without counting towards the delivery limit."""
        await self._settle(number, frame)

    async def _settle(self, number: int | None, refusal: Frame | None) -> None:
        numbers = self._meant(number)
        wanted = [self._held[each] for each in numbers]
        if refusal is None:
            done = await claims.aack(self.queue, wanted)
        elif _requeues(refusal):
            done = await claims.arequeue(self.queue, wanted)
        else:
            reason = refusal.headers.get("reason", "").replace("\0", "")[:_LONGEST_REASON]
            holder = self.context.principal.name
            done = await in_thread(dead_lettering.reject, self.queue, wanted, reason, holder)
        for each in numbers:
            self._held.pop(each, None)
        self.context.live.queues.look(self.queue)
        if len(done) < len(wanted):
            raise ProtocolError(
                f"{len(wanted) - len(done)} messages were no longer held: they were taken back, or deleted",
                "lease_lost",
            )

    def _meant(self, number: int | None) -> list[int]:
        """Raises `ProtocolError` for what was not delivered, or is settled."""
        if self.mode == AUTO or number is None or number not in self._held:
            raise ProtocolError("this message was not delivered here, or is settled already", "unknown_ack")
        if self.mode == CLIENT:
            return [each for each in self._held if each <= number]
        return [number]

    # -- its end --------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Gives back what is not settled; if the store is away, its lease runs out."""
        self._ended = True
        if self._delivering is not None:
            self._delivering.cancel()
            await asyncio.gather(self._delivering, return_exceptions=True)
        try:
            await self.context.live.queues.leave(self.queue, self)
            await claims.arequeue(self.queue, list(self._held.values()))
        except Unavailable as error:
            log.info("messages return later", extra={"queue": self.queue.name, "error": error.detail})
        self._held.clear()
        if self.queue.temporary:
            self.context.live.temporary_queues.discard(self.queue.name)


def _requeues(frame: Frame) -> bool:
    text = frame.headers.get("requeue", "false")
    if text not in ("true", "false"):
        raise ProtocolError("requeue is true or false", "invalid_header")
    return text == "true"
