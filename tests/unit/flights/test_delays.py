"""Which delays of the month are worth a message, and what such a message says."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from brokers.names import validate
from examples.flights import delays
from examples.flights.counting import Flight
from examples.flights.departures import DELAYED, departures

LATE: dict[str, Any] = {
    "carrier": "UA",
    "flight": 1545,
    "origin": "EWR",
    "tailnum": "N14228",
    "dep_time": 700,
    "dep_delay": 125,
}


def flight(**changes: Any) -> Flight:
    return msgspec.convert(LATE | changes, Flight)


def test_1852_departures_of_the_month_were_an_hour_late_or_more_935_of_them_from_newark() -> None:
    late = [found for row in departures() if delays.is_worth_a_message(found := msgspec.convert(row, Flight))]
    assert len(late) == DELAYED == 1_852
    assert Counter(found.origin for found in late) == {"EWR": 935, "JFK": 530, "LGA": 387}
    by_priority = Counter(delays.priority(found.dep_delay or 0) for found in late)
    assert sorted(by_priority.items()) == [(0, 1246), (1, 399), (2, 129), (3, 53), (4, 13), (5, 12)]


@pytest.mark.parametrize(
    ("minutes", "is_worth", "priority"),
    [
        (None, False, 0),
        (-5, False, 0),
        (59, False, 0),
        (60, True, 0),
        (119, True, 0),
        (120, True, 1),
        (359, True, 4),
        (360, True, 5),
        (100_000, True, 5),
    ],
)
def test_the_longer_the_delay_the_more_urgent(minutes: int | None, is_worth: bool, priority: int) -> None:
    assert delays.is_worth_a_message(flight(dep_delay=minutes)) is is_worth
    assert delays.priority(minutes or 0) == priority


def test_a_cancelled_flight_is_not_late() -> None:
    assert not delays.is_worth_a_message(flight(cancelled=True))


def test_the_message_says_which_flight_and_where_its_record_is() -> None:
    assert delays.as_message(flight(), 3, 117, 1357034400000) == {
        "routing_key": "flight.EWR.UA",
        "body": {"carrier": "UA", "flight": 1545, "origin": "EWR", "delay_minutes": 125},
        "headers": {"partition": 3, "offset": 117},
        "priority": 1,
        "message_id": "3-117-1357034400000",
        "type": "delay",
    }


def test_a_routing_key_has_three_words_whatever_the_codes() -> None:
    for row in departures():
        key = delays.routing_key(msgspec.convert(row, Flight))
        assert len(key.split(".")) == 3
        validate("queue", key)
