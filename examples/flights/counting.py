"""What a flight counts for, and what many of them add up to. Pure: no database, no messaging."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

Code = Annotated[str, Meta(pattern=r"\A[0-9A-Z]{1,10}\Z")]
Minutes = Annotated[int, Meta(ge=-100_000, le=100_000)]


class Flight(msgspec.Struct, frozen=True):
    """What is read of a departure; `msgspec.convert` makes it of a record's value, or raises a ValueError."""

    carrier: Code
    flight: int
    origin: Code
    tailnum: Code | None
    dep_time: int | None
    dep_delay: Minutes | None
    cancelled: bool = False


class NoDepartureTime(ValueError):
    """An aircraft was assigned and never left, as far as the record says."""


class NoAircraft(NoDepartureTime):
    """Not even an aircraft was assigned."""


class Count(NamedTuple):
    """What one flight adds to a total, or many do."""

    departures: int = 0
    delay_minutes: int = 0
    """Of departure; early ones count below zero."""
    cancelled: int = 0

    def plus(self, other: Count) -> Count:
        """Both together."""
        return Count(*(mine + yours for mine, yours in zip(self, other, strict=True)))

    def minus(self, other: Count) -> Count:
        """What this one has more."""
        return Count(*(mine - yours for mine, yours in zip(self, other, strict=True)))


def counted(flight: Flight) -> Count:
    """What a flight counts for. Raises `NoDepartureTime` for one that has not left and is not said to be cancelled."""
    if flight.cancelled:
        return Count(cancelled=1)
    if flight.dep_time is None:
        kind = NoDepartureTime if flight.tailnum else NoAircraft
        raise kind(f"no departure time for flight '{flight.carrier}{flight.flight}' from {flight.origin}")
    return Count(departures=1, delay_minutes=flight.dep_delay or 0)


@dataclass
class Counts:
    """Counts of aircraft, by tail number, and of carriers, by their code and the partition that the flight is in."""

    by_aircraft: dict[str, Count] = field(default_factory=dict)
    by_carrier: dict[tuple[str, int], Count] = field(default_factory=dict)

    def add(self, value: Any, partition: int = 0) -> Flight:
        """Counts a record's value for its carrier and, where one was assigned, its aircraft; answers the flight.

        Raises ValueError for a value that is no flight, and `NoDepartureTime`, which is one; nothing is counted then.
        """
        flight = msgspec.convert(value, Flight)
        count = counted(flight)
        carrier = (flight.carrier, partition)
        self.by_carrier[carrier] = self.by_carrier.get(carrier, Count()).plus(count)
        if flight.tailnum is not None:
            self.by_aircraft[flight.tailnum] = self.by_aircraft.get(flight.tailnum, Count()).plus(count)
        return flight
