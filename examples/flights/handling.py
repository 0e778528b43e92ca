"""What the queues' handlers have done about the delayed flights of a publication, and what the file says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from examples.flights import delays
from examples.flights.counting import Flight
from examples.flights.models import DelayedFlight, Rebooking, StandbyCall
from examples.flights.publication import Place

EXPIRED: Final = "expired"


class Fact(NamedTuple):
    """What was done about one flight: the priority it had, or why a standby crew was called."""

    place: Place
    carrier: str
    flight: int
    origin: str
    delay_minutes: int
    how: int | str


@dataclass(frozen=True)
class Newest:
    """The newest row of each table, to tell a run's rows from earlier ones."""

    rebooking: int
    standby: int


@dataclass(frozen=True)
class Handled:
    """All facts about a publication's flights, each with how often it is there: once, if all is well."""

    rebooked: Counter[Fact]
    standby: Counter[Fact]

    @property
    def total(self) -> int:
        """How many there are."""
        return self.rebooked.total() + self.standby.total()

    @property
    def by_priority(self) -> dict[int | str, int]:
        """How many were rebooked at each priority, the highest first."""
        found = Counter(fact.how for fact in self.rebooked.elements())
        return dict(sorted(found.items(), reverse=True))


def newest() -> Newest:
    """As it is now; 0 where there is none."""
    return Newest(_newest(Rebooking), _newest(StandbyCall))


def of_file(departures: Mapping[Place, Mapping[str, Any]]) -> Handled:
    """What has to be done about departures at these places, by the file's own figures."""
    rebooked, standby = Counter[Fact](), Counter[Fact]()
    for place, departure in departures.items():
        flight = msgspec.convert(departure, Flight)
        minutes = flight.dep_delay or 0
        if delays.is_worth_a_message(flight):
            fact = Fact(place, flight.carrier, flight.flight, flight.origin, minutes, delays.priority(minutes))
            rebooked[fact] += 1
            if flight.origin == delays.CREW_DESK:
                standby[fact._replace(how=EXPIRED)] += 1
    return Handled(rebooked, standby)


def done(departures: Mapping[Place, Mapping[str, Any]], since: Newest) -> Handled:
    """What the handlers have written since about departures at these places."""
    return Handled(
        _facts(Rebooking, "priority", since.rebooking, departures),
        _facts(StandbyCall, "reason", since.standby, departures),
    )


def differing(expected: Handled, found: Handled) -> int:
    """How many facts are missing, wrong, or there twice."""
    pairs = ((expected.rebooked, found.rebooked), (expected.standby, found.standby))
    return sum(((one - other) + (other - one)).total() for one, other in pairs)


def _newest(kind: type[DelayedFlight]) -> int:
    found = kind._default_manager.order_by("-id").values_list("id", flat=True).first()
    return found or 0


def _facts(
    kind: type[DelayedFlight], how: str, since: int, departures: Mapping[Place, Mapping[str, Any]]
) -> Counter[Fact]:
    rows = kind._default_manager.filter(id__gt=since).values_list(
        "partition", "record_offset", "carrier", "flight", "origin", "delay_minutes", how
    )
    found = (Fact((partition, offset), *rest) for partition, offset, *rest in rows)
    return Counter(fact for fact in found if fact.place in departures)
