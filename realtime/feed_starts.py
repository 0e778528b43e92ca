"""Where a subscription to a topic begins, checked against the log. Pure: called by `feeds.Feeds.join`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from brokers.errors import PartitionNotFound
from brokers.topic_log import PartitionEnds
from realtime.errors import ProtocolError
from realtime.positions import Position, decode


@dataclass(frozen=True, slots=True)
class Latest:
    """With what is published from now on."""


@dataclass(frozen=True, slots=True)
class Earliest:
    """With the oldest record kept."""


@dataclass(frozen=True, slots=True)
class At:
    """One partition from an offset on; the subscription is to this partition alone."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Right after the record whose token this is (`positions`)."""

    token: str


Start = Latest | Earliest | At | Resume


class Gap(NamedTuple):
    """What retention left of a partition begins at `left`; `asked` is where it was to go on."""

    left: int
    asked: int


@dataclass(slots=True)
class Beginning:
    """The next offset of each partition followed, and those whose first record is to tell of a gap."""

    offsets: dict[int, int]
    gaps: dict[int, Gap] = field(default_factory=dict)


def followed(start: Start, partition: int | None) -> int | None:
    """The only partition that the subscription is to, or None for all.

    Raises `ProtocolError` (`invalid_offset`) when the start is of another.
    """
    if not isinstance(start, At):
        return partition
    if partition is not None and partition != start.partition:
        raise _invalid(f"an offset of partition {start.partition} says nothing of partition {partition}")
    return start.partition


def begin(topic: str, topic_id: int, ends: Sequence[PartitionEnds], start: Start, partition: int | None) -> Beginning:
    """The offsets to begin at, in `partition` or in all.

    Raises `PartitionNotFound`, and `ProtocolError` (`invalid_offset`) for what is malformed or lies beyond the log's
    end: waiting for it might be for ever.
    """
    if partition is not None and not 0 <= partition < len(ends):
        raise PartitionNotFound(f"{topic} has no partition {partition}: it has 0 to {len(ends) - 1}")
    numbers = range(len(ends)) if partition is None else (partition,)
    match start:
        case Latest():
            return Beginning({n: ends[n].latest_offset for n in numbers})
        case Earliest():
            return Beginning({n: ends[n].earliest_offset for n in numbers})
        case At():
            wanted = {start.partition: start.offset}
        case Resume():
            position = decode(start.token)
            wanted = _positions(position, numbers, partition)
            if position.topic_id != topic_id:  # the topic was deleted and made again: nothing is left of that one
                earliest = {n: ends[n].earliest_offset for n in numbers}
                return Beginning(earliest, {n: Gap(offset, offset) for n, offset in earliest.items()})
            if len(position.offsets) > len(ends):
                raise _invalid(f"the position is of {len(position.offsets)} partitions; {topic} has {len(ends)}")
    for number, offset in wanted.items():
        if not 0 <= offset <= ends[number].latest_offset:
            latest = ends[number].latest_offset
            raise _invalid(f"there is no offset {offset} in {topic}/{number}: the next record gets {latest}")
    return Beginning(wanted)


def _positions(position: Position, numbers: Sequence[int], partition: int | None) -> dict[int, int]:
    if position.partition is not None:
        if position.partition != partition:
            raise _invalid(f"the position is of partition {position.partition} alone: subscribe to that one")
        return {position.partition: position.offsets[0]}
    # Whoever wrote the token knew no partition beyond: it had delivered nothing of it.
    return {n: position.offsets[n] if n < len(position.offsets) else 0 for n in numbers}


def _invalid(detail: str) -> ProtocolError:
    return ProtocolError(detail, "invalid_offset")
