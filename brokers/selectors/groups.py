"""Reads of consumer groups for people and for REST: state, members, partitions, lag.

A list is bounded in groups and in partitions, and reads them in three statements however many groups there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

from brokers.database import sync_cursor
from brokers.errors import GroupNotFound, shown
from brokers.sql import load

SQL = load("group_reads")

MAX_PARTITIONS = 10_000
"""Partitions of one page of groups; a page with more is cut, but for its first group."""

State = Literal["stable", "rebalancing", "empty"]


@dataclass(frozen=True, slots=True)
class MemberDetail:
    """A live member, with the topics and numbers of the partitions that it owns."""

    member_id: str
    assignment: list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """How far a group has come with a partition; None where nothing is committed."""

    topic: str
    partition: int
    committed_offset: int | None
    latest_offset: int

    @property
    def lag(self) -> int | None:
        """Records not yet committed, as far as that is known."""
        return None if self.committed_offset is None else max(self.latest_offset - self.committed_offset, 0)


@dataclass(frozen=True, slots=True)
class GroupDetail:
    """A group. `rebalancing` means that a partition is still with a member that shall give it up."""

    group: str
    state: State
    paused: bool
    generation: int
    members: list[MemberDetail]
    partitions: list[PartitionLag]


def get(name: str) -> GroupDetail:
    """One group; raises `GroupNotFound`."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.one, (name,)).fetchone()
    if row is None:
        raise GroupNotFound(f"there is no consumer group {shown(name)}")
    return _details([row])[0]


def page(after: str, limit: int, may: Callable[[str], bool]) -> tuple[list[GroupDetail], str | None]:
    """Up to `limit` groups by name after `after`, those that `may` lets through; and the name to go on after."""
    rows: list[tuple[Any, ...]] = []
    more = True
    while more and len(rows) <= limit:
        with sync_cursor() as cursor:
            found = cursor.execute(SQL.page, (after, limit + 1)).fetchall()
        rows += [row for row in found if may(row[1])]
        more = len(found) > limit
        after = found[-1][1] if found else after
    kept = _fitting(rows[:limit])
    following = kept[-1][1] if kept and len(kept) < len(rows) else None
    return _details(kept), following


def _fitting(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The first of the rows, as many as have no more than `MAX_PARTITIONS` together."""
    total = 0
    for index, row in enumerate(rows):
        total += row[4]
        if total > MAX_PARTITIONS and index:
            return rows[:index]
    return rows


def _details(rows: Sequence[tuple[Any, ...]]) -> list[GroupDetail]:
    ids = [row[0] for row in rows]
    with sync_cursor() as cursor:
        members = _by_group(cursor.execute(SQL.members, (ids,)).fetchall())
        partitions = _by_group(cursor.execute(SQL.partitions, (ids, ids)).fetchall())
    return [_detail(row, members.get(row[0], []), partitions.get(row[0], [])) for row in rows]


def _by_group(rows: list[tuple[Any, ...]]) -> dict[int, list[tuple[Any, ...]]]:
    return {group: [row[1:] for row in found] for group, found in groupby(rows, key=itemgetter(0))}


def _detail(row: tuple[Any, ...], members: list[tuple[Any, ...]], partitions: list[tuple[Any, ...]]) -> GroupDetail:
    _, name, generation, paused, _ = row
    owned: dict[int, list[tuple[str, int]]] = {}
    for topic, number, _, _, owner, _ in partitions:
        owned.setdefault(owner, []).append((topic, number))
    moving = any(owner != target for _, _, _, _, owner, target in partitions)
    return GroupDetail(
        group=name,
        state="empty" if not members else "rebalancing" if moving else "stable",
        paused=paused,
        generation=generation,
        members=[MemberDetail(member_id, owned.get(member, [])) for member, member_id in members],
        partitions=[PartitionLag(topic, n, committed, latest) for topic, n, committed, latest, _, _ in partitions],
    )
