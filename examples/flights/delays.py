"""Which delays are worth a message, and what such a message says. Pure: no database, no messaging."""

from __future__ import annotations

from typing import Any, Final

from examples.flights.counting import Flight

WORTH_MINUTES: Final = 60
"""Delays of departure from here on are sent; in the file those are `DELAYED`."""
TOP_PRIORITY: Final = 5
CREW_DESK: Final = "EWR"
"""The airport whose crew desk is told of delays."""
CREW_DESK_MS: Final = 2000
"""How long a message waits for that desk."""


def is_worth_a_message(flight: Flight) -> bool:
    """Whether a flight departed so late that passengers and crews have to be looked after."""
    return not flight.cancelled and (flight.dep_delay or 0) >= WORTH_MINUTES


def routing_key(flight: Flight) -> str:
    """`flight.<origin>.<carrier>`, so that a queue can ask for an airport, for a carrier, or for all."""
    return f"flight.{flight.origin}.{flight.carrier}"


def priority(minutes: int) -> int:
    """The longer the delay, the more urgent: 0 in its second hour, 1 in the third, up to 5 from six hours on."""
    return max(0, min(minutes // 60 - 1, TOP_PRIORITY))


def as_message(flight: Flight, partition: int, offset: int, timestamp: int) -> dict[str, Any]:
    """What is sent for a delayed flight, as `send_many` takes it; the place is that of its record in the topic.

    The message id is the same whenever the record is handled, and another one in a topic that was made anew.
    """
    return {
        "routing_key": routing_key(flight),
        "body": {
            "carrier": flight.carrier,
            "flight": flight.flight,
            "origin": flight.origin,
            "delay_minutes": flight.dep_delay,
        },
        "headers": {"partition": partition, "offset": offset},
        "priority": priority(flight.dep_delay or 0),
        "message_id": f"{partition}-{offset}-{timestamp}",
        "type": "delay",
    }
