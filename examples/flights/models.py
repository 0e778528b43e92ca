"""What the handlers write: totals, the departures board, and what is done about delayed flights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Self

import msgspec
from django.db import connection, models
from django.db.models.functions import Now

from examples.flights.board import Entry
from examples.flights.counting import Count
from examples.flights.task_models import DailyReport, Export, ExportChunk, Rate, RatePosition

__all__ = [
    "AircraftTotal",
    "CarrierTotal",
    "DailyReport",
    "Departure",
    "Export",
    "ExportChunk",
    "Rate",
    "RatePosition",
    "Rebooking",
    "StandbyCall",
]

ADD_TO_AIRCRAFT = """
    insert into flights_aircraft_total as t (aircraft, departures, delay_minutes, cancelled)
    select * from unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[])
    on conflict (aircraft) do update set
      departures = t.departures + excluded.departures,
      delay_minutes = t.delay_minutes + excluded.delay_minutes,
      cancelled = t.cancelled + excluded.cancelled
"""
ADD_TO_CARRIERS = """
    insert into flights_carrier_total as t (carrier, partition, departures, delay_minutes, cancelled)
    select * from unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::bigint[])
    on conflict (carrier, partition) do update set
      departures = t.departures + excluded.departures,
      delay_minutes = t.delay_minutes + excluded.delay_minutes,
      cancelled = t.cancelled + excluded.cancelled
"""
PUT_ON_BOARD = """
    insert into flights_departure (id, scheduled_at, flight, origin, destination, delay_minutes)
    select * from unnest(%s::text[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::int[])
    on conflict (id) do update set destination = excluded.destination, delay_minutes = excluded.delay_minutes
"""


class Total(models.Model):
    """Numbers to which transactions add."""

    departures = models.BigIntegerField()
    delay_minutes = models.BigIntegerField()
    cancelled = models.BigIntegerField()

    class Meta:
        abstract = True

    @property
    def count(self) -> Count:
        """The numbers."""
        return Count(self.departures, self.delay_minutes, self.cancelled)


class AircraftTotal(Total):
    """Of one aircraft. Its tail number is the record's key, so only the reader of one partition adds to it."""

    aircraft = models.CharField(max_length=20, primary_key=True)

    class Meta:
        db_table = "flights_aircraft_total"

    def __str__(self) -> str:
        return self.aircraft

    @classmethod
    def add(cls, counts: Mapping[str, Count]) -> None:
        """Adds to many totals in one statement, in the order of their keys, so that no two callers wait in a circle."""
        _execute(ADD_TO_AIRCRAFT, [(aircraft, *count) for aircraft, count in sorted(counts.items())])


class CarrierTotal(Total):
    """Of one carrier's flights in one partition of the topic; the carrier's total is the sum of its rows.

    A carrier's flights are in all partitions. Had it a single row, the readers of all partitions would queue for it.
    """

    pk = models.CompositePrimaryKey("carrier", "partition")
    carrier = models.CharField(max_length=10)
    partition = models.IntegerField()

    class Meta:
        db_table = "flights_carrier_total"

    def __str__(self) -> str:
        return f"{self.carrier} in partition {self.partition}"

    @classmethod
    def add(cls, counts: Mapping[tuple[str, int], Count]) -> None:
        """As `AircraftTotal.add`."""
        _execute(ADD_TO_CARRIERS, [(*key, *count) for key, count in sorted(counts.items())])


class Departure(models.Model):
    """One departure on the board; its fields are those of `board.Entry`."""

    id = models.TextField(primary_key=True, db_collation="C")
    scheduled_at = models.DateTimeField()
    flight = models.TextField()
    origin = models.TextField()
    destination = models.TextField()
    delay_minutes = models.IntegerField(null=True)

    class Meta:
        db_table = "flights_departure"
        ordering = ["-scheduled_at", "id"]
        indexes = [models.Index(fields=["-scheduled_at", "id"], name="flights_departure_newest")]

    def __str__(self) -> str:
        return self.id

    @classmethod
    def put(cls, entries: Iterable[Entry]) -> None:
        """Writes rows, each id once, or writes them anew; ordered as `AircraftTotal.add` is."""
        rows = sorted(msgspec.structs.astuple(entry) for entry in entries)
        _execute(PUT_ON_BOARD, rows)


class DelayedFlight(models.Model):
    """What was done about one delayed flight."""

    id = models.BigAutoField(primary_key=True)
    carrier = models.CharField(max_length=10)
    flight = models.IntegerField()
    origin = models.CharField(max_length=10)
    delay_minutes = models.IntegerField()
    partition = models.IntegerField()
    record_offset = models.BigIntegerField()
    """Where the flight's record is in the topic."""
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.carrier}{self.flight} from {self.origin}"

    @classmethod
    def of(cls, body: Mapping[str, Any], headers: Mapping[str, Any], **more: Any) -> Self:
        """The row for a message's body and headers, not stored yet."""
        return cls(**body, partition=headers["partition"], record_offset=headers["offset"], **more)


class Rebooking(DelayedFlight):
    """Its passengers were given other connections."""

    priority = models.SmallIntegerField()

    class Meta:
        db_table = "flights_rebooking"


class StandbyCall(DelayedFlight):
    """A standby crew was called."""

    reason = models.CharField(max_length=20)
    """Why the message did not stay with the crew desk: `expired`."""

    class Meta:
        db_table = "flights_standby_call"


def _execute(statement: str, rows: Sequence[tuple[str | int | datetime | None, ...]]) -> None:
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(statement, [list(column) for column in zip(*rows, strict=True)])
