"""The feeds of one web process: a topic's is made for its first subscriber and dropped a minute after its last.

Hints over Redis say that a partition has changed; the poll behind them makes that a matter of speed alone. Made by
`hub.LiveHub`; STOMP and the streams call `join`. Lives on one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import dataclass

from brokers import wakeup
from brokers.errors import TopicNotFound, Unavailable
from brokers.settings import POLL_INTERVAL_SECONDS
from brokers.topic_log import PartitionEnds
from brokers.topics import TopicInfo, forget
from realtime.feed import Feed, Filter
from realtime.feed_joining import Joined
from realtime.feed_pages import EndsReader, PageReader
from realtime.feed_starts import At, Earliest, Latest, Resume, Start, begin, followed
from realtime.subscribers import Subscriber

__all__ = ["At", "Earliest", "FeedStatus", "Feeds", "Joined", "Latest", "Resume", "Start"]

log = logging.getLogger("waystation.live")

KEPT_SECONDS = 60.0
"""How long a feed without subscribers goes on, for those who come back."""
POLL_WITHOUT_HINTS_SECONDS = 0.2
"""How soon all feeds are compared with the log again while Redis is away."""


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """A feed for the console and the metrics."""

    topic: str
    partitions: int
    live: int
    catching_up: int
    records: int
    ring_records: int
    ring_bytes: int


class Feeds:
    """One of each process."""

    def __init__(self, hub: wakeup.Hub) -> None:
        self._hub = hub
        self._reader = PageReader()
        self._ends = EndsReader()
        self._feeds: dict[int, Feed] = {}
        self._partitions: dict[int, tuple[Feed, int]] = {}
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to listen to hints and to poll; call it inside the running event loop."""
        self._hub.watch(self._heard)
        self._task = asyncio.create_task(self._poll(), name="waystation-feeds")

    async def stop(self) -> None:
        """Ends all subscriptions and the reading."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        feeds = list(self._feeds.values())
        for feed in feeds:
            self._drop(feed)
            feed.end(Unavailable("the server is shutting down"))
        await asyncio.gather(*(feed.closed() for feed in feeds))
        await self._ends.stop()

    async def join(
        self,
        info: TopicInfo,
        subscriber: Subscriber,
        start: Start,
        *,
        partition: int | None = None,
        key: bytes | None = None,
    ) -> Joined:
        """Subscribes to a topic's records, all or those of one partition or key.

        When it returns the start is fixed in the log: whatever is published later is delivered, after all that lies
        between. Raises `TopicNotFound`, `PartitionNotFound`, `Unavailable`, and `ProtocolError` (`invalid_offset`).
        """
        partition = followed(start, partition)
        feed = self._feed(info)
        feed.holders += 1
        try:
            ends = (await self._ends.read([info.id])).get(info.id)
            if feed.ended is not None:
                raise feed.ended
            if ends is None:
                forget(info.name)
                raise TopicNotFound(f"there is no topic {info.name} any more")
            self._open(feed, ends)
            joined = Joined(feed, subscriber, Filter(partition, key), begin(info.name, info.id, ends, start, partition))
            joined.begin()
            return joined
        finally:
            feed.holders -= 1

    def status(self) -> list[FeedStatus]:
        """Every feed, by name."""
        found = []
        for feed in self._feeds.values():
            live = feed.live_count()
            found.append(
                FeedStatus(
                    feed.name,
                    len(feed.heads),
                    live,
                    len(feed.joined) - live,
                    feed.records,
                    len(feed.ring),
                    feed.ring.bytes,
                )
            )
        return sorted(found, key=lambda status: status.topic)

    # -- the feeds -----------------------------------------------------------------------------------------------

    def _feed(self, info: TopicInfo) -> Feed:
        feed = self._feeds.get(info.id)
        if feed is None or feed.ended is not None:
            feed = self._feeds[info.id] = Feed(info, self._reader)
            self._reader.feeds = len(self._feeds)
            self._place(feed)  # hints are kept for it from now on, before the log is asked for its end
        return feed

    def _open(self, feed: Feed, ends: list[PartitionEnds]) -> None:
        feed.open(ends)
        self._place(feed)

    def _place(self, feed: Feed) -> None:
        for number, row in enumerate(feed.partition_ids):
            self._partitions[row] = (feed, number)

    def _drop(self, feed: Feed) -> None:
        if self._feeds.get(feed.topic_id) is feed:
            del self._feeds[feed.topic_id]
        for row in feed.partition_ids:
            if row in self._partitions and self._partitions[row][0] is feed:
                del self._partitions[row]
        self._reader.feeds = max(1, len(self._feeds))

    # -- hints and the poll --------------------------------------------------------------------------------------

    def _heard(self, hint: str) -> None:
        if hint[:1] == "p" and hint[1:].isdecimal():
            found = self._partitions.get(int(hint[1:]))
            if found is not None:
                found[0].want((found[1],))
        elif not hint or hint[:1] == "t":
            self._look.set()

    async def _poll(self) -> None:
        away = False
        while True:
            seconds = POLL_INTERVAL_SECONDS if self._hub.connected else POLL_WITHOUT_HINTS_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds * random.uniform(0.9, 1.1)):  # noqa: S311
                    await self._look.wait()
            self._look.clear()
            try:
                await self._compare()
                away = False
            except Unavailable as error:
                if not away:
                    log.warning("the log cannot be read, live push waits", extra={"error": error.detail})
                away = True

    async def _compare(self) -> None:
        """Compares every feed with the log, and drops those that ended or that nobody wants."""
        self._reader.tidy()
        now = time.monotonic()
        for feed in list(self._feeds.values()):
            if feed.ended is not None or self._is_idle(feed, now):
                self._drop(feed)
                feed.end(TopicNotFound(f"nobody is subscribed to {feed.name}"))
        opened = {number: feed.heads.copy() for number, feed in self._feeds.items() if feed.heads}
        if not opened:
            return
        found = await self._ends.read(opened)
        for number, heads in opened.items():
            followed_still = self._feeds.get(number)
            if followed_still is None or followed_still.ended is not None:
                continue
            feed, ends = followed_still, found.get(number)
            if ends is None:
                feed.end(TopicNotFound(f"there is no topic {feed.name} any more"))
                continue
            feed.compare(ends, heads)
            self._place(feed)

    @staticmethod
    def _is_idle(feed: Feed, now: float) -> bool:
        return not feed.joined and not feed.holders and now - feed.idle_since > KEPT_SECONDS
