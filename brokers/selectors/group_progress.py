"""Reads of consumer groups for the console: state, lag in records and in time, members, retries and dead letters.

A list reads its groups in four statements however many they are, a group's page in five. Nothing is counted by a scan:
lag comes from offsets, its age from the batch that holds the next record, dead letters from their counters, and
redeliveries are counted up to `REDELIVERIES_COUNTED`. Ages are the database's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Literal

from brokers.database import sync_cursor
from brokers.errors import GroupNotFound, shown
from brokers.selectors.groups import MAX_PARTITIONS
from brokers.sql import load

SQL = load("group_progress")

STALLED_MS: Final = 60_000
"""A group stalls when a record waits this long at a member that commits nothing."""
REDELIVERIES_COUNTED: Final = 10_000
_PAGES_SEARCHED: Final = 20
"""Pages read at most to fill one for a reader who may see few of the groups."""

State = Literal["active", "idle", "paused", "rebalancing", "stalled"]


@dataclass(frozen=True, slots=True)
class Member:
    """A live member. `member_id` is a secret of its client: a page shows no more than its beginning."""

    row: int
    member_id: str
    instance_id: str | None
    joined_at: datetime
    heartbeat_at: datetime
    session_timeout_ms: int
    overdue: str | None
    """`session` or `poll_interval` when it has not been heard of in time, and is about to be ended."""
    seen_at: datetime
    """The database's time of this reading."""

    @property
    def silent_ms(self) -> int:
        """Milliseconds since its last heartbeat."""
        return max(int((self.seen_at - self.heartbeat_at).total_seconds() * 1000), 0)

    @property
    def state(self) -> Literal["live", "late", "lost"]:
        """`late` after half of its session timeout."""
        if self.overdue:
            return "lost"
        return "late" if self.silent_ms > self.session_timeout_ms / 2 else "live"

    def belongs_ms(self) -> int:
        """Milliseconds since it joined."""
        return int((self.seen_at - self.joined_at).total_seconds() * 1000)


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """How far a group has come with a partition, and who reads it."""

    topic: str
    partition: int
    partition_id: int
    earliest_offset: int
    latest_offset: int
    committed_offset: int | None
    committed_at: datetime | None
    start_offset: int | None
    owner: int | None
    target: int | None
    careful: bool
    """Its last owner was lost, and records are read one at a time until that is behind."""
    waiting_ms: int | None
    """How long ago the oldest record was stored that the group has not read; None without one."""

    @property
    def position(self) -> int | None:
        """What is committed, or else where the group began; None when neither is known."""
        return self.start_offset if self.committed_offset is None else self.committed_offset

    @property
    def lag(self) -> int | None:
        """Records not yet committed, as far as that is known."""
        return None if self.position is None else max(self.latest_offset - self.position, 0)

    @property
    def expired(self) -> int:
        """Records that retention took before the group read them."""
        return 0 if self.position is None else max(self.earliest_offset - self.position, 0)


@dataclass(frozen=True, slots=True)
class GroupProgress:
    """A group, with all partitions and live members; `lag` and the like are of `partitions`."""

    id: int
    group: str
    generation: int
    paused: bool
    state: State
    members: list[Member]
    partitions: list[PartitionProgress]
    dead_letters: int
    """Those that are open."""
    redeliveries: int
    """Those that wait; one more than `REDELIVERIES_COUNTED` stands for any number beyond."""
    topics: list[str] = field(default_factory=list)

    @property
    def lag(self) -> int | None:
        """Of all partitions whose lag is known; None when no lag is."""
        known = [found.lag for found in self.partitions if found.lag is not None]
        return sum(known) if known else None

    @property
    def waiting_ms(self) -> int | None:
        """How long ago the oldest unread record was stored."""
        return max((found.waiting_ms for found in self.partitions if found.waiting_ms is not None), default=None)

    @property
    def committed_at(self) -> datetime | None:
        """The newest commit."""
        return max((found.committed_at for found in self.partitions if found.committed_at is not None), default=None)

    @property
    def behind(self) -> int:
        """Partitions with unread records."""
        return sum(1 for found in self.partitions if found.lag)


@dataclass(frozen=True, slots=True)
class Retry:
    """What goes on with the record where a partition stands."""

    record_offset: int
    number: int
    exception_class: str
    is_running: bool
    due_ms: int | None
    """Milliseconds until the next attempt, not positive when it is due; None when none was planned."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The redelivery lane of a partition: how many wait in it, and milliseconds until the first is due."""

    waiting: int
    due_ms: int


def get(name: str, *, counted: bool = True) -> GroupProgress:
    """One group; its dead letters and redeliveries are counted unless told otherwise. Raises `GroupNotFound`."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.one, (name,)).fetchone()
    if row is None:
        raise GroupNotFound(f"there is no consumer group {shown(name)}")
    return _read([row], counted=counted)[0]


def page(
    may: Callable[[str], bool], prefix: str = "", after: str = "", limit: int = 50, topic: str | None = None
) -> tuple[list[GroupProgress], str | None]:
    """Groups by name after `after` that begin with `prefix` and that `may` lets through; and the name to go on after.

    With a topic, those that read it, with their partitions of that topic alone; their state is of all partitions.
    """
    rows: list[tuple[Any, ...]] = []
    following: str | None = after
    for _ in range(_PAGES_SEARCHED):
        asked = {"after": following, "prefix": f"{_like(prefix)}%", "topic": topic, "many": limit + 1}
        with sync_cursor() as cursor:
            found = cursor.execute(SQL.page, asked).fetchall()
        following = found[limit - 1][1] if len(found) > limit else None
        rows += [row for row in found[:limit] if may(row[1])]
        if following is None or len(rows) >= limit:
            break
    kept = _fitting(rows[:limit])
    return _read(kept, topic), kept[-1][1] if len(kept) < len(rows) else following


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _fitting(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The first of the rows, as many as have no more than `MAX_PARTITIONS` together, but at least one."""
    total = 0
    for index, row in enumerate(rows):
        total += row[4]
        if total > MAX_PARTITIONS and index:
            return rows[:index]
    return rows


def _read(rows: Sequence[tuple[Any, ...]], topic: str | None = None, *, counted: bool = True) -> list[GroupProgress]:
    if not rows:
        return []
    ids = [row[0] for row in rows]
    with sync_cursor() as cursor:
        members = _by_group(cursor.execute(SQL.members, (ids,)).fetchall())
        partitions = _by_group(cursor.execute(SQL.partitions, {"groups": ids}).fetchall())
        figures: dict[int, tuple[int, int]] = {}
        if counted:
            asked = (REDELIVERIES_COUNTED + 1, ids, [row[1] for row in rows])
            figures = {row[0]: (row[1], row[2]) for row in cursor.execute(SQL.figures, asked).fetchall()}
    found = []
    for group_id, name, generation, paused, _ in rows:
        live = [Member(*row) for row in members.get(group_id, [])]
        dead_letters, redeliveries = figures.get(group_id, (0, 0))
        divided = [PartitionProgress(*row) for row in partitions.get(group_id, [])]
        group = GroupProgress(
            id=group_id,
            group=name,
            generation=generation,
            paused=paused,
            state=_state(paused, live, divided),
            members=live,
            partitions=[part for part in divided if topic is None or part.topic == topic],
            dead_letters=dead_letters,
            redeliveries=redeliveries,
            topics=sorted({part.topic for part in divided}),
        )
        found.append(group)
    return found


def _by_group(rows: list[tuple[Any, ...]]) -> dict[int, list[tuple[Any, ...]]]:
    return {group: [row[1:] for row in found] for group, found in groupby(rows, key=itemgetter(0))}


def _state(paused: bool, members: Sequence[Member], partitions: Iterable[PartitionProgress]) -> State:
    """A group without a member that is heard of is idle, whatever it has left to read."""
    live = {member.row: member for member in members if not member.overdue}
    if paused:
        return "paused"
    if not live:
        return "idle"
    if any(_stalls(part, live.get(part.owner or 0)) for part in partitions):
        return "stalled"
    return "rebalancing" if any(part.owner != part.target for part in partitions) else "active"


def _stalls(part: PartitionProgress, owner: Member | None) -> bool:
    """Whether a record waits, and the owner could have committed something for as long as `STALLED_MS`."""
    if owner is None or part.waiting_ms is None or min(part.waiting_ms, owner.belongs_ms()) < STALLED_MS:
        return False
    return part.committed_at is None or (owner.seen_at - part.committed_at).total_seconds() * 1000 >= STALLED_MS


def going_on(group_id: int, partitions: Iterable[PartitionProgress]) -> dict[int, tuple[Retry | None, Lane | None]]:
    """By partition id, where there is something: the retry of the record where it stands, and its redelivery lane."""
    standing = {part.partition_id: part.position for part in partitions}
    asked = {
        "group": group_id,
        "partitions": list(standing),
        "positions": list(standing.values()),
        "many": REDELIVERIES_COUNTED + 1,
    }
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.going_on, asked).fetchall()
    return {
        row[0]: (Retry(*row[1:6]) if row[2] is not None else None, Lane(row[6], row[7]) if row[6] else None)
        for row in rows
    }


def keeps_processed(group: str) -> bool:
    """Whether the group has records of messages that it processed, so that some are skipped when read again."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.keeps_processed, (group,)).fetchone()
    return bool(row and row[0])
