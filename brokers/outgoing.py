"""Records on their way into a topic: checked rows, then a plan of one batch or more for each partition.

`Outgoing` is what `record_input` makes of Python values and REST of bodies; `plan` chooses partitions and encodes. The
loops here run once for each record published, so they are written for speed: a batch that is one partition's whole
share is encoded as it came.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

from brokers import codec
from brokers.codec import EncodedBatch, Row
from brokers.errors import KeyRequired, RecordTooLarge
from brokers.partitioner import UnkeyedSpread
from brokers.record import Position
from brokers.settings import MAX_RECORDS_PER_REQUEST
from brokers.topics import TopicInfo

_BATCH_BYTES = 1024 * 1024
"""Bytes of one stored batch, about; larger publishes become several batches."""

_spread = UnkeyedSpread()


@dataclass(slots=True)
class Outgoing:
    """Records in the order given. `partitions` is None when no record names one."""

    rows: list[Row]
    partitions: list[int | None] | None = None
    stamped: bool = False
    """Some row has a timestamp of its own; else all are 0."""

    @staticmethod
    def joined(parts: Sequence[Outgoing]) -> Outgoing:
        """All of them one behind the other."""
        stamped = any(part.stamped for part in parts)
        rows: list[Row] = []
        for part in parts:
            rows += [(None, *row[1:]) for row in part.rows] if stamped and not part.stamped else part.rows
        if all(part.partitions is None for part in parts):
            return Outgoing(rows, None, stamped)
        partitions: list[int | None] = []
        for part in parts:
            partitions += part.partitions or [None] * len(part.rows)
        return Outgoing(rows, partitions, stamped)


@dataclass(slots=True)
class Positions(Sequence[Position]):
    """Where records went, in the order given; each is made when it is asked for."""

    topic: str
    size: int
    partition: int
    """Of all records, when `places` is None."""
    places: list[tuple[int, int]] | None
    """Partition and index within the partition's share, for each record."""
    bases: dict[int, int] | None
    """First offset of each partition's share; None while the records are staged."""

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Position: ...
    @overload
    def __getitem__(self, index: slice) -> list[Position]: ...
    def __getitem__(self, index: int | slice) -> Position | list[Position]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(self.size))]
        if not -self.size <= index < self.size:
            raise IndexError(index)
        index %= self.size
        partition, place = (self.partition, index) if self.places is None else self.places[index]
        return Position(self.topic, partition, None if self.bases is None else self.bases[partition] + place)

    def __iter__(self) -> Iterator[Position]:
        return map(self.__getitem__, range(self.size))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Partition and offset of each record that is stored."""
        bases = self.bases or {}
        if self.places is None:
            base = bases[self.partition]
            return ((self.partition, offset) for offset in range(base, base + self.size))
        return ((partition, bases[partition] + place) for partition, place in self.places)


@dataclass(slots=True)
class Plan:
    """Encoded batches in ascending order of partition, one partition's behind each other."""

    info: TopicInfo
    count: int
    places: list[tuple[int, int]] | None
    batches: list[tuple[int, EncodedBatch]] = field(default_factory=list)

    def partition_ids(self) -> set[int]:
        """The rows of the partitions that get something."""
        return {self.info.partition_id(number) for number, _ in self.batches}

    def positions(self, bases: Sequence[int] | None) -> Positions:
        """Where each record went, given the base offset of each batch; None while they are staged."""
        first: dict[int, int] | None = None
        if bases is not None:
            first = {}
            for (number, _), base in zip(self.batches, bases, strict=True):
                first.setdefault(number, base)
        return Positions(self.info.name, self.count, self.batches[0][0], self.places, first)


def plan(info: TopicInfo, outgoing: Outgoing) -> Plan:
    """Chooses partitions and encodes; within a partition the order given stays.

    Raises `PartitionNotFound`, `RecordTooLarge` and `KeyRequired`, with a pointer to the record.
    """
    rows = outgoing.rows
    if info.compacted:
        _require_keys(info, rows)
    lanes, places = _lanes(info, outgoing)
    now = time.time_ns() // 1_000_000
    made = Plan(info, len(rows), places)
    for number in sorted(lanes):
        lane = lanes[number]
        for batch, part in _batches(lane, now, outgoing.stamped):
            if len(batch.payload) > info.max_record_bytes:
                _check_sizes(info, rows, part)
            made.batches.append((number, batch))
    return made


def _lanes(info: TopicInfo, outgoing: Outgoing) -> tuple[dict[int, list[Row]], list[tuple[int, int]] | None]:
    """Each partition's rows, and each row's partition and index there; None where all go to one partition."""
    rows, partitions, count = outgoing.rows, outgoing.partitions, len(info.partition_ids)
    if partitions is None and count == 1:
        return {0: rows}, None
    if partitions is not None:
        named = set(partitions)
        for number in named:
            if number is not None and not 0 <= number < count:
                info.partition_id(number)
        only = next(iter(named))
        if len(named) == 1 and only is not None:
            return {only: rows}, None
    choose, spread, name = info.choose(), _spread.next_partition, info.name
    lanes: dict[int, list[Row]] = {}
    places: list[tuple[int, int]] = []
    for index, row in enumerate(rows):
        number = partitions[index] if partitions is not None else None
        if number is None:
            key = row[1]
            number = choose(key, count) if key else spread(name, count)
        lane = lanes.get(number)
        if lane is None:
            lane = lanes[number] = []
        places.append((number, len(lane)))
        lane.append(row)
    return lanes, places


def _batches(rows: list[Row], now: int, stamped: bool) -> Iterable[tuple[EncodedBatch, Sequence[Row]]]:
    """A partition's share, cut where a batch would grow past 1000 records or a mebibyte."""
    if len(rows) <= MAX_RECORDS_PER_REQUEST:
        batch = codec.encode(rows, now, stamped)
        if len(batch.payload) <= _BATCH_BYTES:
            return [(batch, rows)]
    parts = _chunks(rows)
    return ((codec.encode(part, now, stamped), part) for part in parts)


def _chunks(rows: list[Row]) -> Iterator[list[Row]]:
    start = total = 0
    for index, row in enumerate(rows):
        size = size_of(row)
        if index > start and (index - start == MAX_RECORDS_PER_REQUEST or total + size > _BATCH_BYTES):
            yield rows[start:index]
            start, total = index, 0
        total += size
    yield rows[start:]


def size_of(row: Row) -> int:
    """Bytes of key, value and headers: what `max_record_bytes` limits."""
    total = len(row[1] or b"") + len(row[2] or b"")
    return total + sum(len(name.encode()) + len(text.encode()) for name, text in row[4].items())


def _check_sizes(info: TopicInfo, rows: Sequence[Row], part: Sequence[Row]) -> None:
    for row in part:
        size = size_of(row)
        if size > info.max_record_bytes:
            index = next(n for n, candidate in enumerate(rows) if candidate is row)
            raise RecordTooLarge(
                f"record {index} has {size} bytes; {info.name} takes {info.max_record_bytes}",
                errors=[(f"/records/{index}", f"{size} bytes are more than {info.max_record_bytes}")],
            )


def _require_keys(info: TopicInfo, rows: Sequence[Row]) -> None:
    missing = [index for index, row in enumerate(rows) if not row[1]]
    if missing:
        raise KeyRequired(
            f"{info.name} is compacted: a record without a key cannot be kept or replaced",
            errors=[(f"/records/{index}/key", "a key is needed") for index in missing[:10]],
        )
