"""Setting a group's offsets by hand, and pausing it: what operators do to groups, audited.

A reset raises the generation and voids what members have polled, so that nobody commits over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from django.db import transaction

from brokers import audit, topic_log, topics
from brokers.database import sync_cursor
from brokers.errors import GroupActive, GroupNotFound, InvalidValue, shown
from brokers.group_members import SQL, Settled, announce, settle_overdue
from brokers.names import validate
from brokers.topics import TopicInfo

Place = Literal["earliest", "latest", "offset", "timestamp", "shift"]
PLACES: Final = ("earliest", "latest", "offset", "timestamp", "shift")


class ResetTo(NamedTuple):
    """Where a reset leads: `amount` is an offset, Unix milliseconds, or records to go forward (or back)."""

    place: Place
    amount: int = 0


class Reset(NamedTuple):
    """A partition's committed offset before (None: nothing was) and after."""

    partition: int
    before: int | None
    after: int


def reset(
    group: str,
    topic: str,
    to: ResetTo,
    *,
    partitions: Sequence[int] | None = None,
    dry_run: bool = True,
    actor: audit.Actor = audit.SYSTEM,
) -> list[Reset]:
    """Sets the committed offsets of a topic's partitions (all by default), or says what that would do.

    Offsets end up within the earliest and the latest. A group that does not exist comes to be, unless it is a dry
    run. Raises `GroupActive` while the group has members and is not paused, `TopicNotFound`, `PartitionNotFound`,
    `InvalidValue` for a shift where nothing is committed. Opens a transaction.
    """
    validate("group", group)
    if to.place not in PLACES:
        raise InvalidValue(f"to must be one of {', '.join(PLACES)}, not {shown(to.place)}", pointer="/to")
    info = topics.lookup(topic)
    numbers = _numbers(info, partitions)
    settle_overdue(group)
    aims = {number: _aim(info, number, to) for number in numbers}
    with transaction.atomic():
        group_id = _find(group, create=not dry_run)
        _require_inactive(group, group_id)
        committed = _committed(group_id, info, numbers)
        found = [_reset(info, number, to, aims[number], committed.get(number)) for number in numbers]
        if dry_run or group_id is None:
            return found
        with sync_cursor() as cursor:
            ids = [info.partition_id(number) for number in numbers]
            moved = cursor.execute(SQL.move, (group_id, ids, [made.after for made in found])).fetchone()
        assert moved is not None
        audit.record(actor, "reset", "group", group, _details(topic, to, found))
        announce(Settled(moved[0], 0, ids))
    return found


def pause(group: str, *, actor: audit.Actor = audit.SYSTEM) -> None:
    """Members keep their partitions and get no records; raises `GroupNotFound`. Opens a transaction."""
    _set_paused(group, True, actor)


def resume(group: str, *, actor: audit.Actor = audit.SYSTEM) -> None:
    """Members get records again; raises `GroupNotFound`. Opens a transaction."""
    _set_paused(group, False, actor)


def _set_paused(group: str, paused: bool, actor: audit.Actor) -> None:
    with transaction.atomic(), sync_cursor() as cursor:
        row = cursor.execute(SQL.find, (group,)).fetchone()
        if row is None:
            raise GroupNotFound(f"there is no consumer group {shown(group)}")
        group_id = row[0]
        locked = cursor.execute(SQL.lock, (group_id,)).fetchone()
        assert locked is not None
        row = cursor.execute(SQL.find, (group,)).fetchone()
        if row is None or row[2] == paused:
            return
        cursor.execute(SQL.pause, (paused, group_id))
        ids = [found[0] for found in cursor.execute(SQL.partitions, (group_id,)).fetchall()]
        audit.record(actor, "pause" if paused else "resume", "group", group, {})
        announce(Settled(locked[0], 0, ids))


def _numbers(info: TopicInfo, partitions: Sequence[int] | None) -> list[int]:
    if partitions is None:
        return list(range(len(info.partition_ids)))
    if not partitions:
        raise InvalidValue("partitions must name at least one, or be null for all", pointer="/partitions")
    for number in partitions:
        info.partition_id(number)
    return sorted(set(partitions))


def _find(group: str, *, create: bool) -> int | None:
    with sync_cursor() as cursor:
        if create:
            row = cursor.execute(SQL.open, (group,)).fetchone()
        else:
            row = cursor.execute(SQL.find, (group,)).fetchone()
    return None if row is None else int(row[0])


def _require_inactive(group: str, group_id: int | None) -> None:
    if group_id is None:
        return
    with sync_cursor() as cursor:
        live = len(cursor.execute(SQL.live, (group_id,)).fetchall())
        row = cursor.execute(SQL.find, (group,)).fetchone()
    if live and not (row and row[2]):
        raise GroupActive(f"{group} has {live} members and is not paused: stop or pause it, then reset its offsets")


def _committed(group_id: int | None, info: TopicInfo, numbers: Sequence[int]) -> dict[int, int]:
    if group_id is None:
        return {}
    by_id = {info.partition_id(number): number for number in numbers}
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.committed, (group_id, list(by_id))).fetchall()
    return {by_id[partition_id]: offset for partition_id, offset in rows}


def _aim(info: TopicInfo, number: int, to: ResetTo) -> int | None:
    """The offset that does not depend on what is committed; None for a shift."""
    if to.place == "shift":
        return None
    if to.place == "timestamp":
        return topic_log.offset_at(info, number, to.amount)
    bounds = topic_log.bounds(info, number)
    if to.place == "offset":
        return min(max(to.amount, bounds.earliest), bounds.latest)
    return bounds.earliest if to.place == "earliest" else bounds.latest


def _reset(info: TopicInfo, number: int, to: ResetTo, aim: int | None, before: int | None) -> Reset:
    if aim is None:
        if before is None:
            raise InvalidValue(f"nothing is committed for {info.name}/{number} to shift from", pointer="/to/shift")
        bounds = topic_log.bounds(info, number)
        aim = min(max(before + to.amount, bounds.earliest), bounds.latest)
    return Reset(number, before, aim)


def _details(topic: str, to: ResetTo, found: list[Reset]) -> dict[str, object]:
    """What the audit record keeps: before and after of each partition."""
    place = to.place if to.place in ("earliest", "latest") else {to.place: to.amount}
    return {"topic": topic, "to": place, "partitions": {str(n): [before, after] for n, before, after in found}}
