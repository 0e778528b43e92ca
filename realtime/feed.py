"""One topic's records on their way to this process's live subscribers.

A feed follows the log: whatever says "look again" (a hint, the poll, somebody who joins) marks partitions as wanted,
and one task reads them from where the feed stands. So lost, late, repeated and forged hints cost a read at most, and
each record is delivered once and in the order of its partition. Made by `feeds.Feeds`; `feed_joining.Joined` brings
subscribers up to where it stands.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from brokers.errors import BrokerError, TopicNotFound, Unavailable
from brokers.record import Record
from brokers.topic_log import Page, PartitionEnds
from brokers.topics import TopicInfo
from realtime.errors import ProtocolError
from realtime.feed_ring import Ring, size_of
from realtime.positions import encode, encode_one
from realtime.subscribers import Batch, RecordEvent

if TYPE_CHECKING:
    from realtime.feed_joining import Joined
    from realtime.feed_pages import PageReader

log = logging.getLogger("waystation.live")

BATCH_RECORDS = 200
BATCH_BYTES = 64 * 1024
"""What is delivered together at most; a larger record comes alone."""
READ_AT_ONCE = 16
"""Partitions in one read."""
YIELD_EVERY = 500
"""Deliveries after which others get their turn on the event loop."""
RETRY_SECONDS = 0.5
"""Pause after a read that failed because the database is away."""


class Filter(NamedTuple):
    """What a subscription is limited to."""

    partition: int | None
    key: bytes | None


def batches(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Cuts records into what is delivered together."""
    start = size = 0
    for n, record in enumerate(records):
        more = size_of(record)
        if n > start and (n - start == BATCH_RECORDS or size + more > BATCH_BYTES):
            yield records[start:n]
            start, size = n, 0
        size += more
    if start < len(records):
        yield records[start:]


class Feed:
    """`heads[p]` is the next offset of partition p: whoever is live has been given all before it."""

    def __init__(self, info: TopicInfo, reader: PageReader) -> None:
        self.topic_id = info.id
        self.name = info.name
        self.reader = reader
        self.partition_ids: list[int] = list(info.partition_ids)
        self.heads: list[int] = []
        self.ring = Ring([])
        self.joined: set[Joined] = set()
        """Everybody, live or catching up."""
        self.holders = 0
        """Those about to join."""
        self.idle_since = time.monotonic()
        """When the last one left, if nobody is here."""
        self.ended: BrokerError | None = None
        self.records = 0
        """Records delivered to the live ones, each counted once."""
        self._live: dict[Filter, dict[Joined, None]] = {}
        self._wanted: set[int] = set()
        self._wake = asyncio.Event()
        self._moved: asyncio.Future[None] | None = None
        self._before: list[int] = []
        self._unserved: set[Joined] = set()
        """Those that the batch under way has not reached; for them the feed still stands at `_before`."""
        self._task: asyncio.Task[None] | None = None

    # -- following the log ---------------------------------------------------------------------------------------

    def open(self, ends: Sequence[PartitionEnds]) -> None:
        """Begins to follow the log from its end, or takes in partitions that were added meanwhile."""
        known = len(self.heads)
        added = [end.latest_offset if self._task is None else 0 for end in ends[known:]]
        self.partition_ids[known:] = [end.partition_id for end in ends[known:]]
        self.heads += added
        self.ring.low += added
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name=f"waystation-feed-{self.topic_id}")
            self._task.add_done_callback(self._finished)
            if self._wanted:
                self._wake.set()
        elif added:
            self.want(range(known, len(self.heads)))

    def want(self, partitions: Iterable[int]) -> None:
        """Has these partitions looked at again."""
        self._wanted.update(partitions)
        if self._wanted and self.heads:
            self._wake.set()

    def compare(self, ends: Sequence[PartitionEnds], heads: Sequence[int]) -> None:
        """Wants what the log has beyond the feed. `heads` are the feed's of before the log was asked.

        A log that ends before them has lost records that were delivered (it was restored): everybody is to come back
        and be told.
        """
        self.open(ends)
        if any(end.latest_offset < head for end, head in zip(ends, heads, strict=False)):
            self.end(ProtocolError(f"the log of {self.name} ends before what was delivered of it", "invalid_offset"))
        self.want(n for n, end in enumerate(ends) if end.latest_offset > self.heads[n])

    async def moved(self) -> None:
        """Waits until the feed has advanced or ended."""
        if self.ended is None:
            if self._moved is None:
                self._moved = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._moved)

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                numbers = sorted(self._wanted)[:READ_AT_ONCE]
                self._wanted.difference_update(numbers)
                try:
                    pages = await self.reader.read_live(self, {n: self.heads[n] for n in numbers})
                except TopicNotFound as error:
                    self.end(error)
                    return
                except Unavailable:
                    self._wanted.update(numbers)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                await self._advance(pages)

    async def _advance(self, pages: Mapping[int, Page]) -> None:
        for number, page in pages.items():
            if page.start > self.heads[number]:
                self._skip(number, page.start)
        for part in batches([record for page in pages.values() for record in page.records]):
            await self._deliver(part)  # of several partitions together: each batch costs every subscriber a write
        for number, page in pages.items():
            self.heads[number] = max(self.heads[number], page.next_offset)
            if page.next_offset < page.latest_offset:
                self._wanted.add(number)
        self._tell_moved()

    def _skip(self, partition: int, offset: int) -> None:
        """Retention was faster than the feed."""
        asked, self.heads[partition] = self.heads[partition], offset
        self.ring.skip(partition, offset)
        for filter_, members in self._live.items():
            if filter_.partition in (None, partition):
                for joined in members:
                    joined.miss(partition, asked, offset)

    def _tell_moved(self) -> None:
        if self._moved is not None:
            self._moved.set_result(None)
            self._moved = None

    # -- delivering ----------------------------------------------------------------------------------------------

    def enter(self, joined: Joined) -> None:
        """Takes in a subscriber that stands where the feed does: it gets all that follows."""
        self._live.setdefault(joined.filter, {})[joined] = None

    def leave(self, joined: Joined) -> None:
        """Forgets a subscriber, live or not."""
        members = self._live.get(joined.filter)
        if members is not None:
            members.pop(joined, None)
            if not members:
                del self._live[joined.filter]
        self.joined.discard(joined)
        if not self.joined:
            self.idle_since = time.monotonic()

    def live_count(self) -> int:
        """Subscribers that get records as they come."""
        return sum(map(len, self._live.values()))

    def stood_at(self, joined: Joined) -> Sequence[int]:
        """The next offsets of a live subscriber, also while others of the same batch are being served."""
        return self._before if joined in self._unserved else self.heads

    async def _deliver(self, records: Sequence[Record]) -> None:
        before = self.heads.copy()
        chosen = self._choose(records)
        self.records += len(records)
        served = [(joined, batch) for batch, members in chosen for joined in members]
        if len(served) <= YIELD_EVERY:
            for joined, batch in served:
                joined.take(batch)
            return
        self._before, self._unserved = before, self._everybody()
        for start in range(0, len(served), YIELD_EVERY):
            for joined, batch in served[start : start + YIELD_EVERY]:
                joined.take(batch)
                self._unserved.discard(joined)
            await asyncio.sleep(0)
        self._unserved = set()

    def _everybody(self) -> set[Joined]:
        return {joined for members in self._live.values() for joined in members}

    def _choose(self, records: Sequence[Record]) -> list[tuple[Batch, list[Joined]]]:
        """Moves over the records, and says who gets which of them."""
        live, heads, ring = self._live, self.heads, self.ring
        limit = self.reader.ring_bytes()
        chosen: dict[Filter, list[RecordEvent]] = {}
        vectors = any(filter_.partition is None for filter_ in live)
        singles = any(filter_.partition is not None for filter_ in live)
        for record in records:
            number, key = record.partition, record.key_bytes
            heads[number] = record.offset + 1
            ring.add(record, limit)
            if vectors:
                event = RecordEvent(record, encode(self.topic_id, heads))
                _add(chosen, live, Filter(None, None), event)
                if key is not None:
                    _add(chosen, live, Filter(None, key), event)
            if singles:
                event = RecordEvent(record, encode_one(self.topic_id, number, record.offset + 1))
                _add(chosen, live, Filter(number, None), event)
                if key is not None:
                    _add(chosen, live, Filter(number, key), event)
        return [(Batch(events), list(live[filter_])) for filter_, events in chosen.items()]

    # -- the end -------------------------------------------------------------------------------------------------

    def end(self, error: BrokerError) -> None:
        """Ends all subscriptions with this error; the feed delivers nothing more."""
        if self.ended is not None:
            return
        self.ended = error
        for joined in list(self.joined):
            joined.stop(error)
        self._tell_moved()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def closed(self) -> None:
        """Waits until the reading is over; `end` it first."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a feed of a topic failed", extra={"topic": self.name}, exc_info=error)
            self.end(Unavailable(f"the records of {self.name} cannot be read now"))


def _add(
    chosen: dict[Filter, list[RecordEvent]],
    live: Mapping[Filter, Mapping[Joined, None]],
    filter_: Filter,
    event: RecordEvent,
) -> None:
    if filter_ in live:
        found = chosen.get(filter_)
        if found is None:
            chosen[filter_] = [event]
        else:
            found.append(event)
