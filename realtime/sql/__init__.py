"""Loads the named statements of this folder, as `brokers.sql` does those of the broker's tables."""

from __future__ import annotations

from pathlib import Path

from brokers.sql import Statements, parse


def load(noun: str) -> Statements:
    """The statements of `<noun>.sql`; raises ValueError when a name is missing or stands twice."""
    return parse(Path(__file__).parent / f"{noun}.sql")
