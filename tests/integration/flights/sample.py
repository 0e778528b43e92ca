"""Seven departures of the file, few enough to add up by hand."""

from __future__ import annotations

from typing import Any, Final

from examples.flights import board
from examples.flights.board import Entry
from examples.flights.departures import departures

WANTED: Final = {
    ("UA", 1545): 2,  # minutes of delay; from EWR
    ("UA", 1714): 4,  # LGA
    ("AA", 1141): 2,  # JFK
    ("B6", 725): -1,  # JFK
    ("EV", 4144): 24,  # EWR
    ("UA", 1111): 47,  # EWR
    ("EV", 4308): None,  # EWR, cancelled
}


def rows() -> list[dict[str, Any]]:
    """Their first departures in the file; the one without a departure time said to be cancelled."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for row in departures():
        key = (row["carrier"], row["flight"])
        if key in WANTED and key not in found:
            found[key] = row | ({"cancelled": True} if row["dep_time"] is None else {})
        if len(found) == len(WANTED):
            break
    assert {key: row["dep_delay"] for key, row in found.items()} == WANTED
    return list(found.values())


def entries() -> list[Entry]:
    """The same, as they stand on the board."""
    return [entry for row in rows() if (entry := board.entry(row)) is not None]
