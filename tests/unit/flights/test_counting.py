"""What the flights of the month count for, and what they add up to, computed from the file alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from brokers import fingerprint
from brokers.failure import describe
from examples.flights.counting import Count, Counts, Flight, NoAircraft, NoDepartureTime, counted
from examples.flights.departures import RECORDS, WITHOUT_DEPARTURE_TIME, departures

FLIGHT: dict[str, Any] = {
    "carrier": "UA",
    "flight": 1545,
    "origin": "EWR",
    "tailnum": "N14228",
    "dep_time": 517,
    "dep_delay": 2,
}


@pytest.fixture(scope="module")
def month() -> list[dict[str, Any]]:
    return list(departures())


def test_the_month_has_27004_departures_521_of_them_without_a_departure_time(month: list[dict[str, Any]]) -> None:
    assert len(month) == RECORDS == 27_004
    without = [departure for departure in month if departure["dep_time"] is None]
    assert len(without) == WITHOUT_DEPARTURE_TIME == 521
    assert sum(departure["tailnum"] is None for departure in without) == 155


def test_exactly_those_fail_and_the_others_add_up(month: list[dict[str, Any]]) -> None:
    counts, failed = Counts(), []
    for departure in month:
        try:
            counts.add(departure)
        except NoDepartureTime:
            failed.append(departure)

    assert len(failed) == 521
    assert all(departure["dep_time"] is None for departure in failed)
    for totals in (counts.by_carrier, counts.by_aircraft):
        assert sum(count.departures for count in totals.values()) == 27_004 - 521
        assert sum(count.delay_minutes for count in totals.values()) == 265_801
    assert len(counts.by_carrier) == 16
    assert counts.by_carrier["UA", 0] == Count(4605, 38_342, 0)
    assert counts.by_aircraft["N730MQ"] == Count(72, 83, 0)


def test_failures_fall_into_groups_by_airport_and_by_whether_there_was_an_aircraft(month: list[dict[str, Any]]) -> None:
    groups: Counter[tuple[str, str]] = Counter()
    digests = set()
    for departure in month:
        try:
            Counts().add(departure)
        except NoDepartureTime as error:
            found = fingerprint.of("topic", "departures", "delays", "handler", describe(error), "exception")
            digests.add(found.digest)
            groups[type(error).__name__, found.message] += 1
            assert found.frame == "examples.flights.counting:counted"

    text = "no departure time for flight '*' from"
    assert groups == {
        ("NoDepartureTime", f"{text} EWR"): 204,
        ("NoDepartureTime", f"{text} LGA"): 133,
        ("NoDepartureTime", f"{text} JFK"): 29,
        ("NoAircraft", f"{text} JFK"): 71,
        ("NoAircraft", f"{text} LGA"): 50,
        ("NoAircraft", f"{text} EWR"): 34,
    }
    assert len(digests) == 6


def test_a_flight_that_is_said_to_be_cancelled_counts_as_that_and_as_nothing_else() -> None:
    counts = Counts()
    counts.add(FLIGHT | {"dep_time": None, "dep_delay": None, "cancelled": True})
    counts.add(FLIGHT | {"dep_time": None, "dep_delay": None, "tailnum": None, "cancelled": True}, 3)

    assert counts.by_aircraft == {"N14228": Count(cancelled=1)}
    assert counts.by_carrier == {("UA", 0): Count(cancelled=1), ("UA", 3): Count(cancelled=1)}


def test_one_that_was_early_takes_minutes_away() -> None:
    counts = Counts()
    for delay in (30, -5):
        counts.add(FLIGHT | {"dep_delay": delay})
    assert counts.by_aircraft == {"N14228": Count(2, 25, 0)}


def test_without_an_aircraft_it_is_another_failure() -> None:
    for tailnum, kind in (("N14228", NoDepartureTime), (None, NoAircraft)):
        with pytest.raises(kind) as caught:
            counted(Flight("UA", 1545, "EWR", tailnum, None, None))
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"bytes",
        "text",
        {},
        FLIGHT | {"carrier": None},
        FLIGHT | {"carrier": "U\0A"},
        FLIGHT | {"tailnum": 14228},
        FLIGHT | {"tailnum": "N" * 11},
        FLIGHT | {"dep_delay": 2**70},
        FLIGHT | {"cancelled": "yes"},
    ],
)
def test_what_is_no_flight_fails_as_a_value_error_and_counts_nothing(value: Any) -> None:
    counts = Counts()
    with pytest.raises(ValueError):
        counts.add(value)
    assert counts == Counts()
