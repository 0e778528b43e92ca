"""Publishing the month of departures, and reading from the log what became of it there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from brokers import publish_many, topic_log, topics
from brokers.record import Record
from examples.flights.departures import departures

CHUNK: Final = 1000

Place = tuple[int, int]
"""Partition and offset."""


@dataclass
class Publication:
    """What was published: each departure by its place in the topic."""

    seconds: float = 0.0
    departures: dict[Place, dict[str, Any]] = field(default_factory=dict)

    @property
    def ends(self) -> dict[int, int]:
        """The offset after the last departure of each partition."""
        ends: dict[int, int] = {}
        for partition, offset in self.departures:
            ends[partition] = max(ends.get(partition, 0), offset + 1)
        return ends


@dataclass
class ReadBack:
    """What was read of a stretch of the log: how much of the publication, and what others published meanwhile."""

    seconds: float = 0.0
    records: int = 0
    different: int = 0
    others: list[Any] = field(default_factory=list)
    """Values."""


def publish(topic: str, told: Callable[[int], None]) -> Publication:
    """Publishes the month a thousand departures at a time, keyed by tail number; `told` hears how many are out."""
    made = Publication()
    rows = [{"key": departure["tailnum"], "value": departure} for departure in departures()]
    began = time.monotonic()
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        for row, position in zip(chunk, publish_many(topic, chunk), strict=True):
            assert position.offset is not None
            made.departures[position.partition, position.offset] = row["value"]
        told(len(made.departures))
    made.seconds = time.monotonic() - began
    return made


def read_back(
    topic: str,
    publication: Publication,
    before: Mapping[int, int],
    after: Mapping[int, int],
    told: Callable[[int], None],
) -> ReadBack:
    """Reads each partition from one offset to the other and compares with what was published there."""
    read = ReadBack()
    began = time.monotonic()
    for partition, end in after.items():
        for record in _records(topic, partition, before.get(partition, 0), end):
            departure = publication.departures.get((partition, record.offset))
            if departure is None:
                read.others.append(record.value)
                continue
            read.records += 1
            read.different += record.value != departure or record.key != departure["tailnum"]
        told(read.records)
    read.seconds = max(time.monotonic() - began, 1e-9)
    return read


def _records(topic: str, partition: int, offset: int, end: int) -> Iterator[Record]:
    info = topics.lookup(topic)
    while offset < end:
        found = topic_log.read(info, partition, offset, CHUNK)
        yield from (record for record in found.records if record.offset < end)
        offset = found.next_offset
