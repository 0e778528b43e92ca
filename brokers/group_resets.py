"""Setting a group's offsets by hand, and pausing it: what operators do to groups, audited.

A reset raises the generation and voids what members have polled, so that nobody commits over it. It is made at once
(`reset`), or as an operator saw it beforehand (`apply`); the newest can be taken back (`undo`) until the group commits
again. What was committed before is in the audit entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from django.db import transaction

from brokers import audit, topic_log, topics
from brokers.database import sync_cursor
from brokers.errors import Conflict, GroupActive, GroupNotFound, InvalidValue, TopicNotFound, shown
from brokers.group_members import SQL, Settled, announce, settle_overdue
from brokers.models import AuditEntry
from brokers.names import validate
from brokers.topic_log import Bounds
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


class LastReset(NamedTuple):
    """The newest reset of a group, while it can be taken back: nothing was committed over it."""

    entry_id: int
    at: datetime
    principal: str
    reason: str
    topic: str
    partitions: list[Reset]


class PlanOutdated(Conflict):
    """Offsets have changed since they were looked at; nothing was set."""

    code = "plan_outdated"


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
    bounds = _bounds(info, numbers)
    aims = {number: _aim(info, number, to, bounds[number]) for number in numbers}
    with nullcontext() if dry_run else transaction.atomic():
        group_id = _find(group, create=not dry_run)
        _require_inactive(group, group_id)
        committed = _committed(group_id, info, numbers)
        found = [_reset(info, number, to, aims[number], committed.get(number), bounds[number]) for number in numbers]
        if dry_run or group_id is None:
            return found
        _move(group_id, info, {made.partition: made.after for made in found})
        audit.record(actor, "reset", "group", group, _details(topic, to, found))
    return found


def apply(
    group: str,
    topic: str,
    to: ResetTo,
    plan: Sequence[Reset],
    *,
    reason: str = "",
    actor: audit.Actor = audit.SYSTEM,
) -> None:
    """Sets committed offsets to exactly what a dry run of `reset` answered; `to` is only audited.

    Raises `PlanOutdated` when something else is committed by now or retention has passed a new offset, `GroupActive`,
    `GroupNotFound`, `TopicNotFound` and `PartitionNotFound`. Opens a transaction.
    """
    info = topics.lookup(topic)
    numbers = [planned.partition for planned in plan]
    settle_overdue(group)
    with transaction.atomic():
        group_id = _lock(group)
        _require_inactive(group, group_id)
        _require_committed(info, group_id, {planned.partition: planned.before for planned in plan})
        bounds = _bounds(info, numbers)
        for number, _, after in plan:
            if not bounds[number].earliest <= after <= bounds[number].latest:
                raise PlanOutdated(f"{topic}/{number} does not hold offset {after} any more; nothing was set")
        _move(group_id, info, {planned.partition: planned.after for planned in plan})
        audit.record(actor, "reset", "group", group, _details(topic, to, plan) | _given(reason=reason))


def last_reset(group: str) -> LastReset | None:
    """The newest reset of the group, if `undo` can take it back."""
    entry = AuditEntry.objects.filter(resource_type="group", resource=group, operation="reset").order_by("-id").first()
    if entry is None or "undo_of" in entry.details:
        return None
    topic = entry.details["topic"]
    made = [Reset(int(number), before, after) for number, (before, after) in entry.details["partitions"].items()]
    try:
        info = topics.lookup(topic)
    except TopicNotFound:
        return None
    ids = dict(enumerate(info.partition_ids))
    with sync_cursor() as cursor:
        committed = dict(
            cursor.execute(
                SQL.standing, (group, [ids[found.partition] for found in made if found.partition in ids])
            ).fetchall()
        )
    if any(committed.get(ids.get(found.partition)) != found.after for found in made):
        return None
    return LastReset(entry.pk, entry.at, entry.principal, entry.details.get("reason", ""), topic, sorted(made))


def undo(group: str, entry_id: int, *, actor: audit.Actor = audit.SYSTEM) -> LastReset:
    """Sets what was committed before the reset of that audit entry, and says which it was.

    Raises `PlanOutdated` when it is not the newest or the group has committed since, `GroupActive`, `GroupNotFound`.
    Opens a transaction.
    """
    settle_overdue(group)
    with transaction.atomic():
        group_id = _lock(group)
        made = last_reset(group)
        if made is None or made.entry_id != entry_id:
            raise PlanOutdated(f"{group} has committed offsets since the reset, or it was undone; nothing was set")
        _require_inactive(group, group_id)
        _move(group_id, topics.lookup(made.topic), {found.partition: found.before for found in made.partitions})
        back = {str(found.partition): [found.after, found.before] for found in made.partitions}
        details = {"topic": made.topic, "to": "undo", "undo_of": entry_id, "partitions": back}
        audit.record(actor, "reset", "group", group, details)
    return made


def pause(group: str, *, note: str = "", actor: audit.Actor = audit.SYSTEM) -> None:
    """Members keep their partitions and get no records; raises `GroupNotFound`. Opens a transaction."""
    _set_paused(group, True, note, actor)


def resume(group: str, *, note: str = "", actor: audit.Actor = audit.SYSTEM) -> None:
    """Members get records again; raises `GroupNotFound`. Opens a transaction."""
    _set_paused(group, False, note, actor)


def _set_paused(group: str, paused: bool, note: str, actor: audit.Actor) -> None:
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
        audit.record(actor, "pause" if paused else "resume", "group", group, _given(note=note))
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


def _lock(group: str) -> int:
    """The group's id, its row and assignments locked until the transaction ends; raises `GroupNotFound`."""
    group_id = _find(group, create=False)
    if group_id is None:
        raise GroupNotFound(f"there is no consumer group {shown(group)}")
    with sync_cursor() as cursor:
        cursor.execute(SQL.lock, (group_id,))
    return group_id


def _require_inactive(group: str, group_id: int | None) -> None:
    if group_id is None:
        return
    with sync_cursor() as cursor:
        live = len(cursor.execute(SQL.live, (group_id,)).fetchall())
        row = cursor.execute(SQL.find, (group,)).fetchone() if live else None
    if live and not (row and row[2]):
        raise GroupActive(f"{group} has {live} members and is not paused: stop or pause it, then reset its offsets")


def _committed(group_id: int | None, info: TopicInfo, numbers: Sequence[int]) -> dict[int, int]:
    if group_id is None:
        return {}
    by_id = {info.partition_id(number): number for number in numbers}
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.committed, (group_id, list(by_id))).fetchall()
    return {by_id[partition_id]: offset for partition_id, offset in rows}


def _require_committed(info: TopicInfo, group_id: int, expected: Mapping[int, int | None]) -> None:
    committed = _committed(group_id, info, list(expected))
    for number, before in expected.items():
        now = committed.get(number)
        if now != before:
            raise PlanOutdated(f"{info.name}/{number} is committed at {now} by now, not at {before}; nothing was set")


def _bounds(info: TopicInfo, numbers: Sequence[int]) -> dict[int, Bounds]:
    """The bounds of partitions, in one statement; raises `TopicNotFound` when one is gone."""
    by_id = {info.partition_id(number): number for number in numbers}
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.bounds, (list(by_id),)).fetchall()
    if len(rows) < len(by_id):
        raise topics.gone(LookupError(info.name), info)
    return {by_id[partition_id]: Bounds(earliest, latest) for partition_id, earliest, latest in rows}


def _aim(info: TopicInfo, number: int, to: ResetTo, bounds: Bounds) -> int | None:
    """The offset that does not depend on what is committed; None for a shift."""
    if to.place == "shift":
        return None
    if to.place == "timestamp":
        return topic_log.offset_at(info, number, to.amount)
    if to.place == "offset":
        return min(max(to.amount, bounds.earliest), bounds.latest)
    return bounds.earliest if to.place == "earliest" else bounds.latest


def _reset(info: TopicInfo, number: int, to: ResetTo, aim: int | None, before: int | None, bounds: Bounds) -> Reset:
    if aim is None:
        if before is None:
            raise InvalidValue(f"nothing is committed for {info.name}/{number} to shift from", pointer="/to/shift")
        aim = min(max(before + to.amount, bounds.earliest), bounds.latest)
    return Reset(number, before, aim)


def _move(group_id: int, info: TopicInfo, offsets: Mapping[int, int | None]) -> None:
    """Under the lock: sets committed offsets, None for nothing committed, in a new generation, and wakes members."""
    ids = [info.partition_id(number) for number in offsets]
    nothing = [info.partition_id(number) for number, offset in offsets.items() if offset is None]
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.move, (group_id, ids, [offset or 0 for offset in offsets.values()])).fetchone()
        if nothing:
            cursor.execute(SQL.uncommit, (group_id, nothing))
    assert row is not None
    announce(Settled(row[0], 0, ids))


def _given(**texts: str) -> dict[str, Any]:
    """Those of the texts that are not empty."""
    return {name: text for name, text in texts.items() if text}


def _details(topic: str, to: ResetTo, found: Sequence[Reset]) -> dict[str, Any]:
    """What the audit record keeps: before and after of each partition."""
    place = to.place if to.place in ("earliest", "latest") else {to.place: to.amount}
    return {"topic": topic, "to": place, "partitions": {str(n): [before, after] for n, before, after in found}}
