"""What stands on the departures board of one flight, in its row and in its record alike. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from examples.flights.counting import Code, Minutes

Hour = Annotated[datetime, Meta(tz=True)]
Minute = Annotated[int, Meta(ge=0, le=59)]


class Entry(msgspec.Struct, frozen=True):
    """One departure on the board."""

    id: str
    """Its scheduled time, flight and airport: one departure has one, however often it is told of."""
    scheduled_at: datetime
    flight: str
    origin: str
    destination: str
    delay_minutes: int | None
    """Below zero when it left early; None when it was cancelled."""


class _Departure(msgspec.Struct, frozen=True):
    """What the board needs of a record's value beyond what is counted."""

    carrier: Code
    flight: int
    origin: Code
    dest: Code
    time_hour: Hour
    minute: Minute
    dep_delay: Minutes | None = None
    cancelled: bool = False


def entry(value: Any) -> Entry | None:
    """The entry for a departure's value; None for one that does not say when and where to, and stays off the board."""
    try:
        found = msgspec.convert(value, _Departure)
        scheduled_at = found.time_hour.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(
            minutes=found.minute
        )
    except (msgspec.ValidationError, OverflowError):
        return None
    flight = f"{found.carrier} {found.flight}"
    return Entry(
        id=f"{scheduled_at:%Y-%m-%dT%H:%MZ} {flight} {found.origin}",
        scheduled_at=scheduled_at,
        flight=flight,
        origin=found.origin,
        destination=found.dest,
        delay_minutes=None if found.cancelled else found.dep_delay or 0,
    )
