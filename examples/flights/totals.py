"""The totals that the group `delays` has written, and what the file says they must have grown by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from brokers import topic_log, topics
from brokers.models import CommittedOffset
from examples.flights.counting import Count, Counts
from examples.flights.models import AircraftTotal, CarrierTotal


@dataclass(frozen=True)
class Totals:
    """Counts by tail number and by carrier."""

    by_aircraft: Mapping[str, Count]
    by_carrier: Mapping[str, Count]

    def since(self, before: Totals) -> Totals:
        """What has come since; what has not changed is left out."""
        return Totals(
            _grown(self.by_aircraft, before.by_aircraft),
            _grown(self.by_carrier, before.by_carrier),
        )

    @property
    def whole(self) -> Count:
        """Of all carriers together."""
        return _sum(self.by_carrier.values())


@dataclass(frozen=True)
class Standing:
    """The totals, and how far their group has come in each partition: both of the same moment."""

    totals: Totals
    offsets: Mapping[int, int]
    """The next offset to read."""


def standing(group: str, topic: str) -> Standing:
    """How it stands now.

    A listener writes its totals and commits its offset in one transaction, and here is one snapshot of both: so the
    totals are those of exactly the records below these offsets.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("set transaction isolation level repeatable read, read only")
        by_aircraft = {row.aircraft: row.count for row in AircraftTotal.objects.all()}
        rows = [(row.carrier, row.count) for row in CarrierTotal.objects.all()]
        by_carrier = {name: _sum(count for carrier, count in rows if carrier == name) for name in dict(rows)}
        return Standing(Totals(by_aircraft, by_carrier), offsets(group, topic))


def offsets(group: str, topic: str) -> dict[int, int]:
    """The next offset that the group has to read of each partition; the earliest where nothing is committed."""
    info = topics.lookup(topic)
    rows = CommittedOffset.objects.filter(group__name=group, partition_id__in=info.partition_ids)
    committed = dict(rows.values_list("partition_id", "committed_offset"))
    return {
        number: committed[partition_id] if partition_id in committed else topic_log.bounds(info, number).earliest
        for number, partition_id in enumerate(info.partition_ids)
    }


def mended(departures: Iterable[Mapping[str, Any]]) -> Totals:
    """What departures add to the totals once those without a departure time are said to be cancelled."""
    counts = Counts()
    for departure in departures:
        counts.add({**departure, "cancelled": True} if departure["dep_time"] is None else departure)
    return _totals(counts)


def handled(values: Iterable[Any]) -> Totals:
    """What records add to the totals as they are; those that cannot be counted add nothing."""
    counts = Counts()
    for value in values:
        try:
            counts.add(value)
        except ValueError:
            continue
    return _totals(counts)


def both(one: Totals, other: Totals) -> Totals:
    """Together."""
    return Totals(
        _added(one.by_aircraft, other.by_aircraft),
        _added(one.by_carrier, other.by_carrier),
    )


def differing(expected: Totals, found: Totals) -> list[tuple[str, Count, Count]]:
    """Carriers and aircraft whose counts differ, with both counts; empty when all are equal."""
    return [
        (name, wanted.get(name, Count()), got.get(name, Count()))
        for wanted, got in ((expected.by_carrier, found.by_carrier), (expected.by_aircraft, found.by_aircraft))
        for name in sorted({*wanted, *got})
        if wanted.get(name, Count()) != got.get(name, Count())
    ]


def _totals(counts: Counts) -> Totals:
    return Totals(counts.by_aircraft, {carrier: count for (carrier, _), count in counts.by_carrier.items()})


def _sum(counts: Iterable[Count]) -> Count:
    total = Count()
    for count in counts:
        total = total.plus(count)
    return total


def _added(one: Mapping[str, Count], other: Mapping[str, Count]) -> dict[str, Count]:
    return {name: one.get(name, Count()).plus(other.get(name, Count())) for name in {*one, *other}}


def _grown(now: Mapping[str, Count], before: Mapping[str, Count]) -> dict[str, Count]:
    differences = {name: count.minus(before.get(name, Count())) for name, count in now.items()}
    return {name: count for name, count in differences.items() if count != Count()}
