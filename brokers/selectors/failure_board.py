"""Reads for the console's failure groups, its Overview and its navigation: everything open, at a glance.

The number of failure groups is small (one for each kind of fault) however many dead letters there are, so a board holds
all of them up to `MAX_GROUPS`, and facets are counted over what was read. Nothing here touches dead letters but for the
first items of recent replays.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from brokers.database import sync_cursor
from brokers.errors import FailureGroupNotFound, shown
from brokers.selectors.dead_letter_filter import Consumer, MaySee
from brokers.sql import load

SQL = load("failure_board")

MAX_GROUPS = 2000
SPANS = 48
SPAN_SECONDS = 1800
"""A day in half hours."""


@dataclass(frozen=True, slots=True)
class BoardGroup:
    """A failure group and how many of its dead letters are in which state."""

    id: int
    fingerprint: str
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
    open: int
    replaying: int
    replayed: int
    resolved: int
    discarded: int

    def count(self, state: str) -> int:
        """How many are in this state."""
        return int(getattr(self, state))


@dataclass(frozen=True, slots=True)
class LastReplay:
    """The newest replay that had letters of a failure group, and its outcomes, of other groups' letters too."""

    id: int
    state: str
    succeeded: int
    failed_again: int
    created_at: datetime
    has_returned: bool
    """Whether one of the failure group's newest open dead letters was replayed before."""


class ItemLetter(NamedTuple):
    """What a replay's item is about."""

    consumer: Consumer
    partition: int | None
    offset: int | None
    message_id: str | None
    state: str
    key: bytes | None


class Readiness(NamedTuple):
    """Whether a consumer group is paused, how many members it has, and how many of those are listeners."""

    paused: bool
    members: int
    listeners: int


class QueueReadiness(NamedTuple):
    """Whether a queue is paused, and how many consumers it has that are known of."""

    paused: bool
    consumers: int


@dataclass(frozen=True, slots=True)
class Open:
    """What needs somebody: failure groups with open dead letters, those letters, replays under way, firing alerts."""

    groups: int
    letters: int
    replays: list[int]
    alerts: int
    """Of all rules: show it to whoever may describe the server."""


def groups(may_see: MaySee) -> list[BoardGroup]:
    """Failure groups that the reader may see, those with open dead letters first, then by newest failure."""
    return [group for group in _groups(None) if may_see(group.source_kind, group.source, group.group)]


def group(fingerprint: str, may_see: MaySee) -> BoardGroup:
    """One failure group; raises `FailureGroupNotFound`, also for one that the reader may not see."""
    for found in _groups(fingerprint):
        if may_see(found.source_kind, found.source, found.group):
            return found
    raise FailureGroupNotFound(f"there is no failure group {shown(fingerprint)}")


def _groups(fingerprint: str | None) -> list[BoardGroup]:
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.groups, {"fingerprint": fingerprint, "limit": MAX_GROUPS}).fetchall()
    return [BoardGroup(*row) for row in rows]


def day(group_ids: Sequence[int]) -> dict[int, list[int]]:
    """Failures of each of the groups in each half hour of the last day, this one last."""
    now = datetime.now(UTC).timestamp()
    first = (now // SPAN_SECONDS - SPANS + 1) * SPAN_SECONDS
    found = {group: [0] * SPANS for group in group_ids}
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.day, (first, float(SPAN_SECONDS), list(group_ids), first)).fetchall()
    for group, span, failures in rows:
        if 0 <= span < SPANS:
            found[group][span] = failures
    return found


def last_replays(group_ids: Sequence[int]) -> dict[int, LastReplay]:
    """The newest replay of each of the groups, as far as the last 50 replays tell."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.last_replays, (list(group_ids),)).fetchall()
    return {row[0]: LastReplay(*row[1:]) for row in rows}


def last_replay_end() -> datetime | None:
    """When the last replay ended that sent something; None when there was none."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.last_replay_end).fetchone()
    return row[0] if row is not None else None


def still_open(may_see: MaySee) -> Open:
    """What is open and under way among what the reader may see; one statement, for every page."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.still_open).fetchall()
    failing = [row for row in rows if row[2] is not None]
    mine = [row for row in failing if may_see(row[0], row[1], row[2])]
    replays = [(row[3], json.loads(row[5])) for row in rows if row[5] is not None]
    return Open(
        groups=sum(row[3] for row in mine),
        letters=sum(row[4] for row in mine),
        replays=[number for number, whose in replays if all(may_see(*Consumer(**each)) for each in whose)],
        alerts=next(row[3] for row in rows if row[0] == "alerts"),
    )


def letters(ids: Sequence[int], revisions: Sequence[int]) -> dict[int, ItemLetter]:
    """The dead letters of replay items, each with the key of the revision named; those removed since are left out."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.letters, (list(ids), list(revisions)), binary=True).fetchall()
    return {row[0]: ItemLetter(Consumer(*row[1:4]), *row[4:]) for row in rows}


def readiness(groups: Sequence[str]) -> dict[str, Readiness]:
    """Whether consumer groups could take what is given back to them; groups that are no more are left out."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.readiness, (list(groups),)).fetchall()
    return {row[0]: Readiness(*row[1:]) for row in rows}


def queue_readiness(queues: Sequence[str]) -> dict[str, QueueReadiness]:
    """Whether queues hand out what is given back to them; queues that are no more are left out."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.queue_readiness, (list(queues),)).fetchall()
    return {row[0]: QueueReadiness(*row[1:]) for row in rows}
