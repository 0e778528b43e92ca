"""Reads of failure groups: their counters right at once, newest failure first, and the failures of the last day.

A failure group's row lacks what the ledger holds and housekeeping has not folded yet; each statement here adds it, in
one snapshot. Failure groups are few however many dead letters there are, so a list sorts those that fit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from brokers.errors import FailureGroupNotFound, shown
from brokers.selectors.dead_letter_filter import (
    Cursor,
    Filter,
    MaySee,
    like,
    read,
    search,
    sides,
    visible,
    written,
)
from brokers.sql import load

SQL = load("failure_group_reads")

HOURS = 24


@dataclass(slots=True)
class FailureGroup:
    """Failures of one fingerprint, and how many of their dead letters are in which state now."""

    id: int
    fingerprint: str
    version: int
    source_kind: str
    source: str
    group: str
    handler: str
    exception_class: str
    frame: str
    message: str
    reason: str
    first_failed_at: datetime
    last_failed_at: datetime
    failures: int
    """Dead letters written, and written again after a replay, since the beginning."""
    open: int
    replaying: int
    replayed: int
    resolved: int
    discarded: int
    sample_id: int | None
    """A dead letter of it, the newest as a rule; None when all are gone."""
    hours: list[int] = field(default_factory=list)
    """Failures of each of the last 24 hours, the one that ends now last."""

    @property
    def count(self) -> int:
        """Its dead letters, whatever their state."""
        return self.open + self.replaying + self.replayed + self.resolved + self.discarded


def failure_groups(
    filter: Filter,  # noqa: A002 - the word of every surface
    after: str,
    limit: int,
    may_see: MaySee,
) -> tuple[list[FailureGroup], str | None]:
    """Up to `limit` failure groups, newest failure first, after a cursor ("" for the start); and the next cursor.

    The filter's `state` wants at least one dead letter in it, `since` and `until` look at the newest failure, `q` at
    handler, exception and message. Raises `InvalidValue` for a cursor, `SearchTooBroad`.
    """
    before = read(after) if after else (None, None)
    with search() as cursor:
        wanted = visible(cursor, filter, may_see)
        rows = _read(cursor, wanted, {"before": before[0], "before_id": before[1], "limit": limit + 1})
        groups = [FailureGroup(*row) for row in rows[:limit]]
        _add_hours(cursor, groups)
    following = written((groups[-1].last_failed_at, groups[-1].id)) if len(rows) > limit else None
    return [group for group in groups if may_see(group.source_kind, group.source, group.group)], following


def failure_group(fingerprint: str) -> FailureGroup:
    """One failure group; raises `FailureGroupNotFound`."""
    with search() as cursor:
        rows = _read(cursor, Filter(fingerprint=fingerprint), {"before": None, "before_id": None, "limit": 1})
        groups = [FailureGroup(*row) for row in rows]
        _add_hours(cursor, groups)
    if not groups:
        raise FailureGroupNotFound(f"there are no failures of the fingerprint {shown(fingerprint)}")
    return groups[0]


def _read(cursor: Cursor, wanted: Filter, place: dict[str, Any]) -> list[tuple[Any, ...]]:
    asked = {
        "state": wanted.state,
        "since": wanted.since,
        "until": wanted.until,
        "pattern": like(wanted.q) if wanted.q else None,
    }
    return cursor.execute(SQL.page, sides(wanted) | asked | place).fetchall()


def _add_hours(cursor: Cursor, groups: list[FailureGroup]) -> None:
    by_id = {group.id: group for group in groups}
    for group in groups:
        group.hours = [0] * HOURS
    ids = list(by_id)
    for number, ago, failures in cursor.execute(SQL.hours, (ids, HOURS, ids, HOURS)).fetchall():
        if 0 <= ago < HOURS:
            by_id[number].hours[HOURS - 1 - ago] += failures
