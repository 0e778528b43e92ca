"""What stands on the departures board of one flight."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from examples.flights.board import Entry, entry
from examples.flights.departures import departures

DEPARTURE = {
    "carrier": "UA",
    "flight": 1545,
    "origin": "EWR",
    "dest": "IAH",
    "time_hour": "2013-01-01T10:00:00Z",
    "minute": 15,
    "dep_delay": 2,
}


def test_a_departure_stands_under_its_scheduled_time_flight_and_airport() -> None:
    assert entry(DEPARTURE) == Entry(
        id="2013-01-01T10:15Z UA 1545 EWR",
        scheduled_at=datetime(2013, 1, 1, 10, 15, tzinfo=UTC),
        flight="UA 1545",
        origin="EWR",
        destination="IAH",
        delay_minutes=2,
    )


@pytest.mark.parametrize(
    ("changes", "delay"),
    [({}, 2), ({"dep_delay": -7}, -7), ({"dep_delay": None}, 0), ({"cancelled": True}, None)],
)
def test_its_delay_is_missing_where_it_was_cancelled(changes: dict[str, Any], delay: int | None) -> None:
    found = entry(DEPARTURE | changes)
    assert found is not None
    assert found.delay_minutes == delay


def test_a_time_elsewhere_is_the_same_instant() -> None:
    assert entry(DEPARTURE | {"time_hour": "2013-01-01T05:00:00.5-05:00"}) == entry(DEPARTURE)


@pytest.mark.parametrize(
    "changes",
    [
        {"dest": None},
        {"dest": "<b>"},
        {"minute": 60},
        {"time_hour": "2013-01-01T10:00:00"},
        {"time_hour": "0001-01-01T00:00:00+23:00"},
        {"time_hour": "tomorrow"},
    ],
)
def test_what_does_not_say_when_and_where_to_stays_off_the_board(changes: dict[str, Any]) -> None:
    assert entry(DEPARTURE | changes) is None


@pytest.mark.parametrize("value", [None, 7, b"\xff", {"carrier": "UA", "flight": 1}])
def test_what_is_no_departure_stays_off_the_board(value: Any) -> None:
    assert entry(value) is None


def test_each_departure_of_the_file_has_an_entry_of_its_own() -> None:
    entries = [entry(departure) for departure in departures()]
    assert None not in entries
    assert len({found.id for found in entries if found}) == len(entries)
