"""Instants over REST: RFC 3339 with a zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from brokers.errors import InvalidValue

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def instant(text: str, pointer: str) -> datetime:
    """The instant that a text names, in UTC; raises `InvalidValue`."""
    try:
        if not _RFC3339.fullmatch(text):
            raise ValueError(text)
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        name = pointer.rpartition("/")[2]
        raise InvalidValue(
            f"{name} must be an RFC 3339 date and time with its zone, such as 2030-01-31T00:00:00Z", pointer=pointer
        ) from error
