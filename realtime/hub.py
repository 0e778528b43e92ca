"""Live push of one web process: what its surfaces share, started and stopped together.

One per process, composed by `messaging_site.asgi`. Feeds bring records of topics, broadcasts what goes to those
subscribed now; the registry knows every connection. Everything here lives on one event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from brokers import wakeup
from brokers.coalescer import Coalescer
from realtime.broadcasts import Broadcasts
from realtime.feeds import Feeds
from realtime.plain_names import PlainNames
from realtime.queue_feeds import QueueFeeds
from realtime.registry import Registry
from realtime.temporary_queues import TemporaryQueues


class LiveHub:
    """The parts of live push in this process."""

    def __init__(self, hub: wakeup.Hub, coalescer: Coalescer) -> None:
        self.hub = hub
        self.coalescer = coalescer
        self.feeds = Feeds(hub)
        self.broadcasts = Broadcasts()
        self.plain = PlainNames(hub)
        self.queues = QueueFeeds(hub)
        self.temporary_queues = TemporaryQueues()
        self.registry = Registry(hub)
        self.stopping: list[Callable[[], Awaitable[None]]] = []
        """What surfaces have to end that is no connection."""

    def start(self) -> None:
        """Begins to listen and to watch over connections; call it inside the running event loop."""
        self.registry.start()
        self.feeds.start()
        self.broadcasts.start()
        self.plain.start()
        self.queues.start()

    def drain(self) -> None:
        """Asks every client to come back elsewhere: WebSockets are closed with 1001, streams end."""
        self.registry.drain()

    async def stop(self) -> None:
        """Ends everything; connections that are still open are cut."""
        self.registry.drain()
        for stop in self.stopping:
            await stop()
        await self.temporary_queues.drain()
        await self.queues.stop()
        await self.plain.stop()
        await self.broadcasts.stop()
        await self.feeds.stop()
        await self.registry.stop()
