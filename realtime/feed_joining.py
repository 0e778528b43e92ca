"""How a subscriber comes to where its feed stands: from the log, then from the feed's ring, then live in one step.

A joiner's position is its own until it is live: the feed's would say less or more than its client has, a gap or a
duplicate after the next reconnect. It holds what it is about to deliver and no more, however slowly that is taken.
Made by `feeds.Feeds.join`.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from operator import attrgetter
from typing import NamedTuple

from brokers.errors import BrokerError, TopicNotFound, Unavailable
from brokers.record import Record
from brokers.topic_log import Page
from realtime.feed import BATCH_BYTES, BATCH_RECORDS, RETRY_SECONDS, Feed, Filter
from realtime.feed_ring import size_of
from realtime.feed_starts import Beginning, Gap
from realtime.positions import decode, encode, encode_one
from realtime.subscribers import Batch, RecordEvent, Subscriber

log = logging.getLogger("waystation.live")

READ_AT_ONCE = 8
"""Partitions in one read of one who catches up."""

_timestamp = attrgetter("timestamp")
_offset = attrgetter("offset")


class Progress(NamedTuple):
    """What is delivered next to one who catches up, and where it stands after it."""

    events: list[RecordEvent]
    offsets: dict[int, int]
    gaps: dict[int, Gap]


class Joined:
    """One subscription to a topic."""

    def __init__(self, feed: Feed, subscriber: Subscriber, filter_: Filter, beginning: Beginning) -> None:
        self.filter = filter_
        self.caught_up = False
        """Whether it gets records as they come."""
        self.left = False
        self._feed = feed
        self._subscriber = subscriber
        self._offsets = beginning.offsets
        """Next offset by partition, in their order; meaningless once it is live."""
        self._gaps = beginning.gaps
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Goes live at once if there is nothing to catch up on, else in a task."""
        self._feed.joined.add(self)
        if not self._enter():
            self._feed.reader.begin_catching_up()
            self._task = asyncio.create_task(self._catch_up(), name="waystation-catch-up")
            self._task.add_done_callback(self._finished)

    def leave(self) -> None:
        """Ends the subscription; nothing is delivered after it."""
        self.left = True
        self._feed.leave(self)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def position(self) -> str:
        """The token of where it stands now: all before it was delivered, or is not for it."""
        if self.caught_up:
            return self._token(dict(enumerate(self._feed.stood_at(self))), self._gaps)
        return self._token(self._offsets, self._gaps)

    @property
    def topic_id(self) -> int:
        """The topic that it follows."""
        return self._feed.topic_id

    def offsets(self) -> dict[int, int]:
        """The next offset of each partition that it follows, as `position` has them but for gaps."""
        if not self.caught_up:
            return self._offsets.copy()
        stood, number = self._feed.stood_at(self), self.filter.partition
        return dict(enumerate(stood)) if number is None else {number: stood[number]}

    def tell_gaps(self) -> dict[int, int]:
        """The first offset left of each partition with a gap that no record has told of yet; they count as told now."""
        told = {n: gap.left for n, gap in self._gaps.items()} if self.caught_up else {}
        if told:
            self._gaps = {}
        return told

    def stop(self, error: BrokerError) -> None:
        """Ends it from this side."""
        if not self.left:
            self.leave()
            self._subscriber.stop(error)

    # -- live ----------------------------------------------------------------------------------------------------

    def take(self, batch: Batch) -> None:
        """Hands a live batch on."""
        if not self.left:
            if self._gaps:
                batch = Batch([self._told(event) for event in batch.events if isinstance(event, RecordEvent)])
            self._subscriber.take(batch)

    def miss(self, partition: int, asked: int, left: int) -> None:
        """Notes that retention removed what lies between two offsets before it was delivered."""
        former = self._gaps.get(partition)
        self._gaps[partition] = Gap(left, asked if former is None else former.asked)

    def _told(self, event: RecordEvent) -> RecordEvent:
        gap = self._gaps.pop(event.record.partition, None)
        if self._gaps and self.filter.partition is None:
            token = self._token(dict(enumerate(decode(event.token).offsets)), self._gaps)
            event = event._replace(token=token)
        return event if gap is None else event._replace(gap=gap.left)

    # -- catching up ---------------------------------------------------------------------------------------------

    def _enter(self) -> bool:
        feed = self._feed
        if self.filter.partition is None and len(self._offsets) < len(feed.heads):
            return False
        if any(feed.heads[n] != offset for n, offset in self._offsets.items()):
            return False
        feed.enter(self)
        self.caught_up = True
        return True

    async def _catch_up(self) -> None:
        feed = self._feed
        while not self.left:
            if self.filter.partition is None:
                for number in range(len(self._offsets), len(feed.heads)):
                    self._offsets[number] = 0
            offsets = self._offsets
            behind = [n for n, offset in offsets.items() if offset < feed.ring.low[n]]
            ahead = [n for n, offset in offsets.items() if offset > feed.heads[n]]
            if behind:
                await self._read({n: offsets[n] for n in behind[:READ_AT_ONCE]})
            elif ahead:
                feed.want(ahead)
                await feed.moved()
            elif self._enter():  # no await between the look at the feed's heads and this
                return
            else:
                await self._deliver(feed.ring.since(offsets), {n: feed.heads[n] for n in offsets})

    async def _read(self, wanted: Mapping[int, int]) -> None:
        try:
            pages = await self._feed.reader.read(self._feed, wanted)
        except TopicNotFound as error:
            self._feed.end(error)
            return
        except Unavailable:
            await asyncio.sleep(RETRY_SECONDS)
            return
        for number, page in pages.items():
            if page.start > wanted[number]:
                self.miss(number, wanted[number], page.start)
        await self._deliver(_merged(wanted, pages), {number: page.next_offset for number, page in pages.items()})

    async def _deliver(self, records: Iterable[Record], stands: Mapping[int, int]) -> None:
        """Delivers the first of these records when there is room; once there are no more, it stands at `stands`."""
        progress = self._progress(records, stands)
        if progress.events and (not await self._subscriber.take_waiting(Batch(progress.events)) or self.left):
            self.left = True
            self._feed.leave(self)
            return
        self._offsets, self._gaps = progress.offsets, progress.gaps

    def _progress(self, records: Iterable[Record], stands: Mapping[int, int]) -> Progress:
        key = self.filter.key
        events: list[RecordEvent] = []
        offsets, gaps, size = self._offsets.copy(), self._gaps.copy(), 0
        for record in records:
            number = record.partition
            if key is not None and record.key_bytes != key:
                offsets[number] = record.offset + 1
                continue
            more = size_of(record)
            if events and (len(events) == BATCH_RECORDS or size + more > BATCH_BYTES):
                return Progress(events, offsets, gaps)
            size += more
            offsets[number] = record.offset + 1
            gap = gaps.pop(number, None)
            events.append(RecordEvent(record, self._token(offsets, gaps), None if gap is None else gap.left))
        offsets.update(stands)
        return Progress(events, offsets, gaps)

    def _token(self, offsets: Mapping[int, int], gaps: Mapping[int, Gap]) -> str:
        """A partition with a gap stays before it in the token until the gap was told."""
        if gaps:
            offsets = {n: gaps[n].asked if n in gaps else offset for n, offset in offsets.items()}
        number = self.filter.partition
        if number is not None:
            return encode_one(self._feed.topic_id, number, offsets[number])
        return encode(self._feed.topic_id, list(offsets.values()))

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._feed.reader.end_catching_up()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a subscriber could not catch up", extra={"topic": self._feed.name}, exc_info=error)
            self.stop(Unavailable(f"the records of {self._feed.name} cannot be read now"))


def _merged(wanted: Mapping[int, int], pages: Mapping[int, Page]) -> Iterator[Record]:
    """Records of several partitions about in the order of their times, each partition's in its own order."""
    parts = []
    for number, page in pages.items():
        begin = bisect_left(page.records, wanted[number], key=_offset)
        parts.append(page.records[begin:] if begin else page.records)
    return iter(parts[0]) if len(parts) == 1 else merge(*parts, key=_timestamp)
