"""Hands messages of queues to the live connections of this process: one task for each queue, however many consume it.

It claims for one consumer after the other, as many messages as each has room for, and so a message wakes one claim and
not a crowd. Hints wake it; each second one statement looks at all queues together, since a hint may be lost; and two
statements keep all consumers registered and all that they hold under its lease. What a process held that is gone comes
back when the lease is over.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection, Sequence
from typing import Final, Protocol

from brokers import wakeup
from brokers.errors import BrokerError, QueueNotFound, Unavailable
from brokers.queues import claims, consumers, topology
from brokers.queues.claims import Claim
from brokers.queues.message import Message
from brokers.queues.topology import QueueInfo
from brokers.settings import POLL_INTERVAL_SECONDS

log = logging.getLogger("waystation.realtime")

LEASE_MS: Final = 30_000
"""How long messages are held, and consumers are there, of a process that is not heard of any more."""
_KEEP_SECONDS: Final = LEASE_MS / 3000
_RETRY_SECONDS: Final = 1.0
_AT_ONCE: Final = 100
"""Messages of one claim at most."""
_KEPT_AT_ONCE: Final = 5000


class Consumer(Protocol):
    """A subscription to a queue."""

    @property
    def name(self) -> str:
        """Its own among all consumers of the queue, in any process."""

    @property
    def prefetch(self) -> int:
        """How many messages it may hold, for people."""

    def room(self) -> int:
        """How many messages it takes now."""

    def take(self, messages: Sequence[Message]) -> None:
        """Gets messages under a claim; never waits."""

    def held(self) -> Collection[Claim]:
        """What it was given and has not settled."""

    def stop(self, error: BrokerError) -> None:
        """Ends it and its connection with this error."""


class QueueFeeds:
    """All queues that connections of this process consume; one for each process, on its event loop."""

    def __init__(self, hub: wakeup.Hub) -> None:
        self._hub = hub
        self._feeds: dict[int, _Feed] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to listen for hints."""
        self._hub.watch(self._hear)
        self._tasks = [
            asyncio.create_task(self._poll(), name="queue-feeds-poll"),
            asyncio.create_task(self._keep(), name="queue-feeds-keep"),
        ]

    async def stop(self) -> None:
        """Ends all; what consumers hold was theirs to give back before."""
        tasks = self._tasks + [feed.task for feed in self._feeds.values() if feed.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def join(self, queue: QueueInfo, consumer: Consumer) -> None:
        """Registers a consumer, which gets messages from now on. Raises `QueueNotFound` and `Unavailable`."""
        await _register(queue, consumer)
        feed = self._feeds.get(queue.id)
        if feed is None:
            feed = self._feeds[queue.id] = _Feed(queue, self._hub)
            feed.task = asyncio.create_task(self._run(feed), name=f"queue-{queue.name}")
        feed.consumers.append(consumer)
        feed.hear()

    async def leave(self, queue: QueueInfo, consumer: Consumer) -> None:
        """Ends a consumer: what it is given after this it was given before. Raises `Unavailable`."""
        feed = self._feeds.get(queue.id)
        if feed is not None and consumer in feed.consumers:
            feed.consumers.remove(consumer)
            await feed.quiet(consumer)
            if not feed.consumers and self._feeds.get(queue.id) is feed:
                del self._feeds[queue.id]
                feed.look()
        await consumers.aleave(queue, consumer.name)

    def look(self, queue: QueueInfo) -> None:
        """Has the queue looked at if it may have messages: a consumer has room again."""
        feed = self._feeds.get(queue.id)
        if feed is not None:
            feed.look()

    async def _run(self, feed: _Feed) -> None:
        try:
            await feed.run()
        except QueueNotFound as error:
            self._end(feed, error)

    def _end(self, feed: _Feed, error: QueueNotFound) -> None:
        if self._feeds.get(feed.queue.id) is feed:
            del self._feeds[feed.queue.id]
        for consumer in list(feed.consumers):
            consumer.stop(error)

    def _hear(self, hint: str) -> None:
        if not hint or hint == "x":
            for feed in self._feeds.values():
                feed.has_doubts = True
                feed.hear()
        elif hint[0] == "q" and hint[1:].isdecimal():
            hinted = self._feeds.get(int(hint[1:]))
            if hinted is not None:
                hinted.hear()

    async def _poll(self) -> None:
        """Looks each second at all queues whose consumers have room, and whether queues have changed."""
        while True:
            await asyncio.sleep(_jittered(POLL_INTERVAL_SECONDS))
            try:
                if not self._feeds:
                    continue
                known = await topology.acurrent()
                for feed in list(self._feeds.values()):
                    if known.queue_by_id(feed.queue.id) != feed.queue:
                        feed.has_doubts = True
                        feed.look()
                wanting = [number for number, feed in self._feeds.items() if feed.wants()]
                for number in await claims.aready(wanting) if wanting else ():
                    if number in self._feeds:
                        self._feeds[number].hear()
            except Unavailable as error:
                log.info("queues are looked at later", extra={"error": error.detail})

    async def _keep(self) -> None:
        """Lets consumers and what they hold last."""
        pause = _KEEP_SECONDS
        while True:
            await asyncio.sleep(_jittered(pause))
            try:
                await self.keep()
                pause = _KEEP_SECONDS
            except Unavailable as error:
                log.info("leases are renewed later", extra={"error": error.detail})
                pause = _RETRY_SECONDS

    async def keep(self) -> None:
        """Renews all leases and registrations now. Raises `Unavailable`."""
        held = [claim for feed in self._feeds.values() for consumer in feed.consumers for claim in consumer.held()]
        for start in range(0, len(held), _KEPT_AT_ONCE):
            await claims.aextend_all(held[start : start + _KEPT_AT_ONCE], LEASE_MS)
        there = [(feed, consumer) for feed in self._feeds.values() for consumer in feed.consumers]
        for start in range(0, len(there), _KEPT_AT_ONCE):
            some = there[start : start + _KEPT_AT_ONCE]
            known = await consumers.abeat_all(
                [(feed.queue.id, consumer.name) for feed, consumer in some], lapse_ms=LEASE_MS
            )
            for feed, consumer in some:
                if (feed.queue.id, consumer.name) not in known and consumer in feed.consumers:
                    await self._again(feed, consumer)

    async def _again(self, feed: _Feed, consumer: Consumer) -> None:
        try:
            await _register(feed.queue, consumer)
        except QueueNotFound as error:
            self._end(feed, error)


class _Feed:
    """One queue, and the consumers that this process has of it."""

    def __init__(self, queue: QueueInfo, hub: wakeup.Hub) -> None:
        self.queue = queue
        self.consumers: list[Consumer] = []
        """Who is next comes first."""
        self.task: asyncio.Task[None] | None = None
        self.has_doubts = False
        """The queue may have been changed or deleted."""
        self._hub = hub
        self._wanted = asyncio.Event()
        self._claiming: Consumer | None = None
        self._claimed = asyncio.Condition()
        self._heard = 1
        """Counts what was heard of the queue: there may be messages since the number that `_empty` is."""
        self._empty = 0

    def hear(self) -> None:
        """There may be messages."""
        self._heard += 1
        self._wanted.set()

    def look(self) -> None:
        """Has it looked at, if there may be messages."""
        self._wanted.set()

    def wants(self) -> bool:
        """Whether a consumer has room for messages."""
        return not self.queue.paused and any(each.room() > 0 for each in list(self.consumers))

    async def quiet(self, consumer: Consumer) -> None:
        """Returns once nothing is being claimed for this consumer, which is among the others no more."""
        async with self._claimed:
            await self._claimed.wait_for(lambda: self._claiming is not consumer)

    async def run(self) -> None:
        """Serves its consumers until there are none. Raises `QueueNotFound`."""
        while self.consumers:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                if self.has_doubts:
                    await self._look_at_queue()
                await self._serve()
            except Unavailable as error:
                log.info("a queue is looked at later", extra={"queue": self.queue.name, "error": error.detail})
                self.hear()
                await asyncio.sleep(_jittered(_RETRY_SECONDS))

    async def _look_at_queue(self) -> None:
        self.has_doubts = False
        try:
            found = await topology.aqueue(self.queue.name)
        except Unavailable:
            self.has_doubts = True
            raise
        if found.id != self.queue.id:
            raise QueueNotFound(f"queue {self.queue.name} was deleted and declared anew")
        if found != self.queue:
            self.queue = found
            self._heard += 1

    async def _serve(self) -> None:
        """Claims until nothing is there, or nobody has room."""
        limit = 1
        while self._empty != self._heard and not self.queue.paused and not self._hub.closing:
            consumer = await self._next()
            if consumer is None:
                return
            heard = self._heard
            alone = self.queue.single_active_consumer or len(self.consumers) == 1
            wanted = min(consumer.room(), _AT_ONCE if alone else limit)
            if wanted > 0 and await self._claim(consumer, wanted) < wanted:
                self._empty = heard
            limit = min(limit * 2, _AT_ONCE)

    async def _next(self) -> Consumer | None:
        """Who gets messages next."""
        if self.queue.single_active_consumer:
            active = await consumers.aactive(self.queue)
            found = [each for each in list(self.consumers) if each.name == active and each.room() > 0]
            return found[0] if found else None
        for _ in range(len(self.consumers)):
            first = self.consumers.pop(0)
            self.consumers.append(first)
            if first.room() > 0:
                return first
        return None

    async def _claim(self, consumer: Consumer, limit: int) -> int:
        """How many messages the consumer got; they are given back if it has left meanwhile."""
        self._claiming = consumer
        try:
            found = await claims.aclaim(self.queue, limit, LEASE_MS, consumer.name)
            if found and consumer in self.consumers:
                consumer.take(found)
            elif found:
                await claims.arequeue(self.queue, list(map(Claim.of, found)))
        finally:
            self._claiming = None
            async with self._claimed:
                self._claimed.notify_all()
        return len(found)


async def _register(queue: QueueInfo, consumer: Consumer) -> None:
    await consumers.aregister(queue, consumer.name, "stomp", prefetch=consumer.prefetch, lapse_ms=LEASE_MS)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
