"""Reads of replays for people and for REST: lists, one with its progress, its items, and those of a dead letter.

Counters are exact at any time: what housekeeping has not folded yet is added. Who may see a replay is decided by whose
dead letters it holds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from brokers.database import sync_cursor
from brokers.errors import InvalidValue, ReplayNotFound, shown
from brokers.models import AuditEntry
from brokers.models.replays import OUTCOMES
from brokers.selectors.dead_letter_filter import Consumer, MaySee
from brokers.sql import load

SQL = load("replay_reads")

MAX_ID: Final = 2**63 - 1
REPLAYS_OF_A_LETTER: Final = 20
"""The newest replays told of a dead letter."""
_EVENTS: Final = 200


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """One replay. `total` are the items to be replayed; `skipped` counts those skipped at the plan as well."""

    id: int
    state: str
    selection: dict[str, Any]
    consumers: tuple[Consumer, ...]
    target: dict[str, Any] | None
    merge_patch: str | None
    """JSON text."""
    edited: bool
    """One dead letter was edited for it."""
    rate_per_second: float | None
    canary: dict[str, Any] | None
    stop_when_failed_again: float | None
    reason: str
    created_by: str
    created_at: datetime
    starts_at: datetime
    expires_at: datetime | None
    finished_at: datetime | None
    stop_cause: str
    total: int
    skips: dict[str, int]
    """Skipped at the plan: reason to count."""
    sent: int
    succeeded: int
    failed_again: int
    skipped: int

    @property
    def waiting(self) -> int:
        """Items without an outcome, sent or not."""
        return self.total + sum(self.skips.values()) - self.succeeded - self.failed_again - self.skipped

    @property
    def done(self) -> int:
        """Of `total`, those with an outcome."""
        return self.total - self.waiting


@dataclass(frozen=True, slots=True)
class Progress:
    """How a replay gets on. `eta_seconds` is None when nothing moves."""

    under_way: int
    per_second: float
    eta_seconds: float | None


class Item(NamedTuple):
    """One dead letter in a replay; `position` is its place in the order."""

    position: int
    dead_letter_id: int
    revision: int
    outcome: str
    why: str
    sent_at: datetime | None
    finished_at: datetime | None


class ReplayOf(NamedTuple):
    """A replay of one dead letter."""

    id: int
    outcome: str
    why: str
    at: datetime


def get(replay_id: int) -> ReplaySummary:
    """One replay; raises `ReplayNotFound`."""
    row = None
    if 0 < replay_id <= MAX_ID:
        with sync_cursor() as cursor:
            row = cursor.execute(SQL.get, (replay_id,)).fetchone()
    if row is None:
        raise ReplayNotFound(f"there is no replay {shown(replay_id)}")
    return _summary(row)


def page(
    after: int | None, limit: int, may_see: MaySee, states: Sequence[str] | None = None
) -> tuple[list[ReplaySummary], int | None]:
    """Replays newest first, after the id `after`, those of which the caller may see every consumer; and the id to go
    on after.
    """
    found: list[ReplaySummary] = []
    before = after if after is not None else MAX_ID
    wanted = {"states": None if states is None else list(states), "limit": limit + 1}
    while True:
        with sync_cursor() as cursor:
            rows = cursor.execute(SQL.page, wanted | {"before": before}).fetchall()
        found += [each for each in map(_summary, rows) if all(may_see(*consumer) for consumer in each.consumers)]
        if len(found) > limit:
            return found[:limit], found[limit - 1].id
        if len(rows) <= limit:
            return found, None
        before = rows[-1][0]


def progress(replay: ReplaySummary) -> Progress:
    """How a replay gets on now, by the outcomes of the last ten seconds."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.progress, (replay.id,)).fetchone()
    under_way, measured = (0, 0.0) if row is None else row
    pace = measured or (replay.rate_per_second if replay.state == "running" else None)
    moves = replay.state in ("waiting", "canary", "running")
    return Progress(under_way, float(measured), replay.waiting / pace if moves and pace else None)


def items(replay_id: int, outcome: str | None, after: int | None, limit: int) -> tuple[list[Item], int | None]:
    """Items in their order, after the position `after`, of one outcome if given; and the position to go on after.

    Raises `InvalidValue` for an outcome that there is not.
    """
    if outcome is not None and outcome not in OUTCOMES:
        raise InvalidValue(f"outcome is one of {', '.join(OUTCOMES)}, not {shown(outcome)}", pointer="/outcome")
    position = -1 if after is None else after
    wanted: dict[str, Any] = {"replay": replay_id, "after": position, "limit": limit + 1}
    with sync_cursor() as cursor:
        if outcome is None:
            rows = cursor.execute(SQL.items, wanted).fetchall()
        else:
            rows = cursor.execute(SQL.items_by_outcome, wanted | {"outcome": outcome}).fetchall()
    found = [Item(*row) for row in rows[:limit]]
    return found, found[-1].position if len(rows) > limit else None


def of_letters(dead_letter_ids: Sequence[int]) -> dict[int, list[ReplayOf]]:
    """The newest replays of each dead letter, newest first; up to 20 of each."""
    found: dict[int, list[ReplayOf]] = {number: [] for number in dead_letter_ids}
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.of_letters, (list(dead_letter_ids), REPLAYS_OF_A_LETTER)).fetchall()
    for number, *replay in rows:
        found[number].append(ReplayOf(*replay))
    return found


def of_letter(dead_letter_id: int) -> list[ReplayOf]:
    """The newest replays of one dead letter, newest first."""
    return of_letters([dead_letter_id])[dead_letter_id]


def moving() -> int:
    """How many replays are not over, plans aside; a hundred stands for more."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.moving).fetchone()
    assert row is not None
    return int(row[0])


def events(replay_id: int) -> list[AuditEntry]:
    """What was done to a replay, newest first, from the audit record."""
    entries = AuditEntry.objects.filter(resource_type="replay", resource=str(replay_id))
    return list(entries.order_by("-id")[:_EVENTS])


def _summary(row: tuple[Any, ...]) -> ReplaySummary:
    edit = _json(row[5]) or {}
    return ReplaySummary(
        id=row[0],
        state=row[1],
        selection=_json(row[2]),
        consumers=tuple(Consumer(**consumer) for consumer in _json(row[3])),
        target=_json(row[4]),
        merge_patch=edit.get("merge_patch"),
        edited=edit.get("revision") is not None,
        rate_per_second=row[6],
        canary=_json(row[7]),
        stop_when_failed_again=row[8],
        reason=row[9],
        created_by=row[10],
        created_at=row[11],
        starts_at=row[12],
        expires_at=row[13],
        finished_at=row[14],
        stop_cause=row[15],
        total=row[16],
        skips=_json(row[17]),
        sent=row[18],
        succeeded=row[19],
        failed_again=row[20],
        skipped=row[21],
    )


def _json(value: Any) -> Any:
    """Django's connections give JSON as text."""
    return json.loads(value) if isinstance(value, str) else value
