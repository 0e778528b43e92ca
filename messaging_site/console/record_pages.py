"""Pages of a topic's records over one or several partitions, newest or oldest first.

Several partitions are merged by timestamp; a partition's own order is never broken. A page ends with a cursor
that holds, for each partition, where to go on. Reads through `brokers.topic_log`; called by `records`.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from brokers import topic_log
from brokers.errors import OffsetOutOfRange
from brokers.record import Record
from brokers.selectors.topics import PartitionSummary

PAGE_SIZE = 50
_FETCH_BYTES = 2 * 1024 * 1024
_MAX_FETCHES = 40
"""Fetches of one page: what compaction has thinned out is walked over page by page."""
_WIDEST_STEP = 1000
_CURSOR = re.compile(r"[0-9]{1,4}:[0-9]{1,19}(,[0-9]{1,4}:[0-9]{1,19}){0,999}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Page:
    """Records in the order to be shown; `cursor` leads on, None at the end."""

    records: list[Record]
    cursor: str | None


def read_cursor(text: str) -> dict[int, int] | None:
    """Offsets by partition from a cursor; None for text that is none."""
    if not _CURSOR.fullmatch(text):
        return None
    return {int(partition): int(offset) for partition, offset in (part.split(":") for part in text.split(","))}


def _write_cursor(offsets: Mapping[int, int]) -> str | None:
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(offsets.items())) or None


class _Walk:
    """Goes over one partition's records and remembers how far it has come."""

    def __init__(self, topic: str, bounds: PartitionSummary, at: int, budget: list[int], step: int) -> None:
        self.partition = bounds.partition
        self.taken = 0
        self.position = at
        """Where to go on when everything given out so far has been taken."""
        self.given = 0
        self.start = at
        self._topic = topic
        self._earliest = bounds.earliest_offset
        self._latest = bounds.latest_offset
        self._budget = budget
        self._step = step

    def newest_first(self) -> Iterator[Record]:
        """Records below `start`, in descending order, read window by window."""
        high = min(self.start, self._latest)
        step = self._step
        while high > self._earliest and self._budget[0] > 0:
            low = max(self._earliest, high - step)
            records, following = self._fetch(low, high - low)
            if records and following < high:
                # Large records: the window holds more bytes than one fetch gives, so a smaller one is tried.
                step = max(1, (high - low) // 2)
                continue
            for record in reversed([record for record in records if record.offset < high]):
                self.given += 1
                yield record
                self.position = record.offset
            self.position = high = low
            step = min(step * 2, _WIDEST_STEP)

    def oldest_first(self) -> Iterator[Record]:
        """Records from `start` on, in ascending order."""
        low = max(self.start, self._earliest)
        while low < self._latest and self._budget[0] > 0:
            records, following = self._fetch(low, self._step)
            for record in records:
                self.given += 1
                yield record
                self.position = record.offset + 1
            self.position = low = following if following > low else self._latest

    def _fetch(self, offset: int, limit: int) -> tuple[list[Record], int]:
        self._budget[0] -= 1
        try:
            fetched = topic_log.fetch(self._topic, self.partition, offset, limit=limit, max_bytes=_FETCH_BYTES)
        except OffsetOutOfRange as error:
            # Retention came between reading the bounds and the records.
            return [], error.earliest_offset
        return fetched.records, fetched.next_offset


def newest_first(topic: str, partitions: list[PartitionSummary], at: Mapping[int, int]) -> Page:
    """The newest records below `at` (a partition not named there: all of it)."""
    walks = _walks(
        topic, partitions, {part.partition: at.get(part.partition, part.latest_offset) for part in partitions}
    )
    merged = heapq.merge(*(walk.newest_first() for walk in walks), key=lambda record: record.timestamp, reverse=True)
    records = _take(merged, walks, after=0)
    earliest = {part.partition: part.earliest_offset for part in partitions}
    left = any(walk.position > earliest[walk.partition] for walk in walks)
    return Page(records, _write_cursor({walk.partition: walk.position for walk in walks}) if left else None)


def oldest_first(topic: str, partitions: list[PartitionSummary], at: Mapping[int, int]) -> Page:
    """Records from `at` on (a partition not named there: from its beginning)."""
    walks = _walks(
        topic,
        partitions,
        {part.partition: at.get(part.partition, part.earliest_offset) for part in partitions},
    )
    merged = heapq.merge(*(walk.oldest_first() for walk in walks), key=lambda record: record.timestamp)
    records = _take(merged, walks, after=1)
    latest = {part.partition: part.latest_offset for part in partitions}
    left = any(walk.position < latest[walk.partition] for walk in walks)
    return Page(records, _write_cursor({walk.partition: walk.position for walk in walks}) if left else None)


def _walks(topic: str, partitions: list[PartitionSummary], at: Mapping[int, int]) -> list[_Walk]:
    step = max(8, 2 * PAGE_SIZE // max(1, len(partitions)))
    budget = [_MAX_FETCHES + 2 * len(partitions)]
    return [_Walk(topic, part, at[part.partition], budget, step) for part in partitions]


def _take(merged: Iterator[Record], walks: list[_Walk], after: int) -> list[Record]:
    """The page's records; sets each walk's position to where the next page begins in its partition.

    The merge holds one record of each walk ahead: one that gave more than was taken goes on at the
    last taken.
    """
    records = list(islice(merged, PAGE_SIZE))
    by_partition = {walk.partition: walk for walk in walks}
    last: dict[int, int] = {}
    for record in records:
        by_partition[record.partition].taken += 1
        last[record.partition] = record.offset
    for walk in walks:
        if walk.given > walk.taken:
            walk.position = last[walk.partition] + after if walk.taken else walk.start
        elif walk.taken:
            walk.position = _further(walk.position, last[walk.partition] + after, after)
    return records


def _further(one: int, other: int, after: int) -> int:
    return max(one, other) if after else min(one, other)
