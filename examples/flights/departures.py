"""The month of departures as records: one for each line of the file, keyed by the aircraft's tail number."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parent / "flights-2013-01.csv.gz"
RECORDS: Final = 27_004
WITHOUT_DEPARTURE_TIME: Final = 521
DELAYED: Final = 1_852
"""Departures that were 60 minutes late or more, 935 of them from Newark (EWR)."""
_TEXT = frozenset({"carrier", "tailnum", "origin", "dest", "time_hour"})


def departures() -> Iterator[dict[str, Any]]:
    """One mapping for each departure; numbers are numbers, and what the file leaves empty (or NA) is None."""
    with gzip.open(FILE, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            yield {name: _value(name, text) for name, text in row.items()}


def _value(name: str, text: str) -> str | int | None:
    if text in ("", "NA"):
        return None
    return text if name in _TEXT else int(text)
