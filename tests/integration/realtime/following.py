"""A hub, feeds and subscribers for tests of live topics against the real stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from django.db import connections

from brokers import database, topics
from brokers.errors import BrokerError
from brokers.publishing import apublish_many
from brokers.record import NewRecord
from brokers.topics import TopicInfo
from brokers.wakeup import Hub
from realtime.feeds import Feeds, Joined, Start
from realtime.subscribers import Batch, RecordEvent
from tests.server import unique


async def in_thread(function: Callable[[], Any]) -> Any:
    """Runs synchronous database code beside the event loop."""

    def run() -> Any:
        try:
            return function()
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits for a condition; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def created(partitions: int = 1, **options: Any) -> TopicInfo:
    """A new topic."""
    name = unique()
    await in_thread(lambda: topics.create(name, partitions=partitions, **options))
    return await topics.alookup(name)


async def add(info: TopicInfo, *values: object, partition: int = 0, key: bytes | None = None) -> None:
    """Publishes values into one partition."""
    await apublish_many(info.name, [NewRecord(key, str(value).encode(), partition=partition) for value in values])


@asynccontextmanager
async def following() -> AsyncIterator[Feeds]:
    """Feeds of this event loop over a hub that listens."""
    hub = Hub(lambda kind, name: topics.forget(name) if kind == "t" else None)
    feeds = Feeds(hub)
    feeds.start()
    hub.start()
    await until(lambda: hub.connected)
    try:
        yield feeds
    finally:
        await feeds.stop()
        await hub.stop()
        await database.close()


class Reader:
    """A subscriber that keeps what it gets; it takes what it catches up on only while `open` is set."""

    def __init__(self) -> None:
        self.events: list[RecordEvent] = []
        self.batches: list[Batch] = []
        self.errors: list[BrokerError] = []
        self.open = asyncio.Event()
        self.open.set()
        self.gone = False
        self.joined: Joined | None = None

    def take(self, batch: Batch) -> None:
        """As `Subscriber.take`."""
        self.batches.append(batch)
        self.events += [event for event in batch.events if isinstance(event, RecordEvent)]

    async def take_waiting(self, batch: Batch) -> bool:
        """As `Subscriber.take_waiting`."""
        await self.open.wait()
        if not self.gone:
            self.take(batch)
        return not self.gone

    def stop(self, error: BrokerError) -> None:
        """As `Subscriber.stop`."""
        self.errors.append(error)

    def values(self) -> list[str]:
        """The values that came, in order."""
        return [(event.record.value_bytes or b"").decode() for event in self.events]

    def offsets(self, partition: int = 0) -> list[int]:
        """The offsets that came of one partition."""
        return [event.record.offset for event in self.events if event.record.partition == partition]


async def joined(feeds: Feeds, info: TopicInfo, start: Start, **filters: Any) -> Reader:
    """A new subscriber."""
    reader = Reader()
    reader.joined = await feeds.join(info, reader, start, **filters)
    return reader
