"""The last records of a feed, kept so that whoever joins or comes back soon needs no look into the log.

Bounded by number and bytes over all partitions; the oldest go first. Pure: owned by one `feed.Feed`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from brokers.record import Record

MAX_RECORDS = 2000
MAX_BYTES = 4 * 1024 * 1024
OVERHEAD = 300
"""Bytes of a record beside its key, value and headers, about."""


def size_of(record: Record) -> int:
    """Bytes of key, value and headers."""
    size = len(record.key_bytes or b"") + len(record.value_bytes or b"")
    for name, value in record.headers.items():
        size += len(name) + len(value)
    return size


class Ring:
    """`low[p]` is the offset from which on it holds all that the feed has delivered of partition p."""

    def __init__(self, low: list[int]) -> None:
        self.low = low
        self.bytes = 0
        self._records: deque[tuple[Record, int]] = deque(maxlen=MAX_RECORDS + 1)

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record, max_bytes: int = MAX_BYTES) -> None:
        """Takes the next record of its partition, and lets go of the oldest beyond the bounds."""
        size = size_of(record) + OVERHEAD
        self._records.append((record, size))
        self.bytes += size
        while self._records and (len(self._records) > MAX_RECORDS or self.bytes > max_bytes):
            oldest, size = self._records.popleft()
            self.bytes -= size
            self.low[oldest.partition] = max(self.low[oldest.partition], oldest.offset + 1)

    def skip(self, partition: int, offset: int) -> None:
        """Notes that the feed left out what lies before `offset` in a partition; what it holds of it is void."""
        self.low[partition] = offset

    def since(self, offsets: Mapping[int, int]) -> Iterator[Record]:
        """The records from these offsets on, in the order in which they came; of other partitions none.

        Take from it before anything else happens to the ring.
        """
        for record, _ in self._records:
            start = offsets.get(record.partition)
            if start is not None and record.offset >= start:
                yield record
