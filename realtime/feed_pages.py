"""Reads of the log for feeds and for those catching up: few at a time in one process, and shared where they can be.

After a restart of a server hundreds come back to about the same place; one read then serves all who are there. Owned
by `feeds.Feeds`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from brokers import topic_log
from brokers.errors import TopicNotFound
from brokers.topic_log import Page, PartitionEnds
from realtime import feed_ring

if TYPE_CHECKING:
    from realtime.feed import Feed

PAGE_RECORDS = 500
PAGE_BYTES = 256 * 1024
"""Of one partition; at least one stored batch is read."""
READS_AT_ONCE = 4
"""Of feeds, and as many of those catching up."""
KEPT_PAGES = 128
KEPT_BYTES = 16 * 1024 * 1024
"""Of pages kept while somebody catches up, and until the next poll."""
RINGS_BYTES = 64 * 1024 * 1024
"""Of all rings of the process together."""
_LEAST_RING_BYTES = 64 * 1024


class PageReader:
    """Shared by all feeds of a process."""

    def __init__(self) -> None:
        self.feeds = 1
        """How many share the memory of the rings."""
        self.reads = 0
        """Reads for those catching up, so far."""
        self._live = asyncio.Semaphore(READS_AT_ONCE)
        self._shared = asyncio.Semaphore(READS_AT_ONCE)
        self._catching_up = 0
        self._pages: dict[int, list[Page]] = {}
        self._order: deque[tuple[int, Page, int]] = deque(maxlen=KEPT_PAGES + 1)
        self._bytes = 0

    def ring_bytes(self) -> int:
        """What one feed's ring may hold."""
        return min(feed_ring.MAX_BYTES, max(_LEAST_RING_BYTES, RINGS_BYTES // self.feeds))

    def begin_catching_up(self) -> None:
        """Counts one more who reads."""
        self._catching_up += 1

    def end_catching_up(self) -> None:
        """And one less."""
        self._catching_up -= 1

    def tidy(self) -> None:
        """Lets go of the kept pages unless somebody is catching up; called with every poll."""
        if not self._catching_up:
            self._pages.clear()
            self._order.clear()
            self._bytes = 0

    async def read_live(self, feed: Feed, wanted: Mapping[int, int]) -> dict[int, Page]:
        """Pages from the given offsets on, for the feed itself. Raises `TopicNotFound` and `Unavailable`."""
        async with self._live:
            return await _fetch(feed, wanted)

    async def read(self, feed: Feed, wanted: Mapping[int, int]) -> dict[int, Page]:
        """The same for one who catches up: pages that hold the offsets, of at least one partition.

        A page may begin earlier. Where it begins later, retention has cut in.
        """
        found = self._known(feed, wanted)
        if found:
            return found
        async with self._shared:
            found = self._known(feed, wanted)  # read by another meanwhile
            if found:
                return found
            self.reads += 1
            found = await _fetch(feed, wanted)
            for number, page in found.items():
                if page.records:
                    self._keep(feed.partition_ids[number], page)
            return found

    def _known(self, feed: Feed, wanted: Mapping[int, int]) -> dict[int, Page]:
        found = {}
        for number, offset in wanted.items():
            for page in self._pages.get(feed.partition_ids[number], ()):
                if page.start <= offset < page.next_offset:
                    found[number] = page
                    break
        return found

    def _keep(self, row: int, page: Page) -> None:
        size = sum(map(feed_ring.size_of, page.records)) + feed_ring.OVERHEAD * len(page.records)
        self._pages.setdefault(row, []).append(page)
        self._order.append((row, page, size))
        self._bytes += size
        while len(self._order) > KEPT_PAGES or self._bytes > KEPT_BYTES:
            oldest, dropped, size = self._order.popleft()
            pages = self._pages[oldest]
            pages.pop(next(n for n, candidate in enumerate(pages) if candidate is dropped))
            if not pages:
                del self._pages[oldest]
            self._bytes -= size


async def _fetch(feed: Feed, wanted: Mapping[int, int]) -> dict[int, Page]:
    asked = {n: (feed.partition_ids[n], offset) for n, offset in wanted.items()}
    pages = await topic_log.afetch_partitions(feed.name, asked, PAGE_RECORDS, PAGE_BYTES)
    if len(pages) < len(asked):
        raise TopicNotFound(f"there is no topic {feed.name} any more")
    return pages


Ends = dict[int, list[PartitionEnds]]


class EndsReader:
    """Asks where partitions end: one statement at a time, for all who asked while the one before was under way."""

    def __init__(self) -> None:
        self._topics: set[int] = set()
        self._next: asyncio.Task[Ends] | None = None
        self._one = asyncio.Lock()

    async def read(self, topic_ids: Iterable[int]) -> Ends:
        """The partitions of these topics (and maybe of others), seen after this call. Raises `Unavailable`."""
        self._topics.update(topic_ids)
        if self._next is None:
            self._next = asyncio.create_task(self._run(), name="waystation-ends")
        return await asyncio.shield(self._next)

    async def _run(self) -> Ends:
        async with self._one:
            self._next = None
            topics, self._topics = self._topics, set()
            return await topic_log.aends_of_topics(sorted(topics))

    async def stop(self) -> None:
        """Waits until no statement is under way."""
        while self._next is not None:
            await asyncio.wait([self._next])
        async with self._one:
            return
