"""Membership of consumer groups: joining, leaving, expiry, and the division of partitions that each brings.

There is no coordinator: whoever joins, leaves, polls or looks locks the group's row, ends sessions that are over and
divides again. Times are the database's. Called through `groups`; polling and offsets are in modules of their own.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from django.db import transaction

from brokers import assignor, wakeup
from brokers.database import sqlstate, sync_cursor
from brokers.errors import Conflict, InvalidValue, TopicNotFound, Unavailable, UnknownMember, shown
from brokers.names import validate
from brokers.sql import load
from brokers.steps import Rows, Steps, aatomically, atomically

SQL = load("groups")

SESSION_TIMEOUT_MS: Final = 45_000
MAX_POLL_INTERVAL_MS: Final = 300_000
MIN_TIMEOUT_MS: Final = 100
"""The least that either timeout may be."""
SESSION_TIMEOUT_LIMIT_MS: Final = 3_600_000
MAX_POLL_INTERVAL_LIMIT_MS: Final = 86_400_000
MAX_TOPICS: Final = 100
"""Topics of one member."""
MAX_MEMBERS: Final = 1000
"""Members of one group at a time."""
RESET_POLICIES: Final = ("earliest", "latest", "none")
TOMBSTONE_MS: Final = 86_400_000
"""How long an ended member is remembered: its commits are then refused as stale rather than unknown."""
_GROUPS_AT_ONCE = 100
_ROWS_AT_ONCE = 1000
_LOCK_WAIT_MS = 500
_LOCK_NOT_AVAILABLE = "55P03"
_NOBODY = 0
_MEMBER_ID = re.compile(r"m-[0-9a-f]{32}")


class Assigned(NamedTuple):
    """A partition that a member owns, and the generation since which its position counts."""

    topic: str
    partition: int
    since: int


class Joined(NamedTuple):
    """A new member: its secret id, the group's generation and what it owns already."""

    member_id: str
    generation: int
    assignment: list[Assigned]


class Settled(NamedTuple):
    """What a change of a group came to; `partition_ids` are those divided, whose waiters look again."""

    generation: int
    ended: int
    partition_ids: list[int]


class Subscription(NamedTuple):
    """What a member asks for when it joins; times in milliseconds."""

    topics: tuple[str, ...]
    auto_offset_reset: str = "earliest"
    session_timeout_ms: int = SESSION_TIMEOUT_MS
    max_poll_interval_ms: int = MAX_POLL_INTERVAL_MS
    instance_id: str | None = None
    """Makes a static member: joining again under it takes over at once what the former one owned."""

    def checked(self) -> Subscription:
        """Itself, each topic once; raises `InvalidName` and `InvalidValue`."""
        errors: list[tuple[str, str]] = []
        if not 1 <= len(self.topics) <= MAX_TOPICS:
            errors.append(("/topics", f"must name 1 to {MAX_TOPICS} topics, not {len(self.topics)}"))
        if self.auto_offset_reset not in RESET_POLICIES:
            errors.append(("/auto_offset_reset", f"must be one of {', '.join(RESET_POLICIES)}"))
        for name, value, limit in (
            ("session_timeout_ms", self.session_timeout_ms, SESSION_TIMEOUT_LIMIT_MS),
            ("max_poll_interval_ms", self.max_poll_interval_ms, MAX_POLL_INTERVAL_LIMIT_MS),
        ):
            if not MIN_TIMEOUT_MS <= value <= limit:
                errors.append((f"/{name}", f"must be {MIN_TIMEOUT_MS} to {limit} milliseconds, not {value}"))
        if errors:
            raise InvalidValue("the membership asked for is not valid", errors=errors)
        for index, topic in enumerate(self.topics):
            validate("topic", topic, pointer=f"/topics/{index}")
        return self._replace(topics=tuple(dict.fromkeys(self.topics)))


def join(group: str, subscription: Subscription) -> Joined:
    """Makes a new member; the group comes to be with its first.

    With an `instance_id` that a live member has, that one is replaced: its partitions pass to the new member without a
    division, and it commits nothing more (Kafka's static membership, KIP-345). Raises `InvalidName`, `InvalidValue`,
    `TopicNotFound`, and `Conflict` when the group is full. Runs in a transaction on Django's connection, in the
    caller's if one is open, and holds the group until its end.
    """
    validate("group", group)
    joined, settled = atomically(_join(group, subscription.checked()))
    announce(settled)
    return joined


async def ajoin(group: str, subscription: Subscription) -> Joined:
    """`join` on the pool."""
    validate("group", group)
    joined, settled = await aatomically(_join(group, subscription.checked()))
    wakeup.announce_partitions(settled.partition_ids)
    return joined


def leave(group: str, member_id: str) -> None:
    """Ends a member's session and gives its partitions to others at once; raises `UnknownMember`."""
    announce(atomically(_leave(group, known_form(group, member_id))))


async def aleave(group: str, member_id: str) -> None:
    """`leave` on the pool."""
    settled = await aatomically(_leave(group, known_form(group, member_id)))
    wakeup.announce_partitions(settled.partition_ids)


def settle_overdue(group: str) -> None:
    """Ends sessions of the group that are over, and divides again if there is a reason to; nothing else."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.find, (group,)).fetchone()
        if row is None:
            return
        undivided = cursor.execute(SQL.undivided, (row[0],)).fetchone()
    if undivided is not None and undivided[0]:
        announce(atomically(settle(row[0])))


def expire_sessions() -> int:
    """Ends the sessions that are over, in up to a hundred groups, each in a transaction: how many sessions.

    A group that a long transaction holds is passed over: its turn comes with the next call.
    """
    with sync_cursor() as cursor:
        groups = [row[0] for row in cursor.execute(SQL.overdue, (_GROUPS_AT_ONCE,)).fetchall()]
    ended = 0
    for group_id in groups:
        try:
            settled = atomically(_settle_soon(group_id))
        except Unavailable as error:
            if error.__cause__ is not None and sqlstate(error.__cause__) == _LOCK_NOT_AVAILABLE:
                continue
            raise
        announce(settled)
        ended += settled.ended
    return ended


def forget_ended_members() -> int:
    """Removes members that ended over a day ago, and offsets of partitions that are gone: how many rows."""
    with sync_cursor() as cursor:
        members = cursor.execute(SQL.forget_members, (TOMBSTONE_MS, _ROWS_AT_ONCE)).rowcount
        return members + cursor.execute(SQL.forget_offsets, (_ROWS_AT_ONCE,)).rowcount


def announce(settled: Settled) -> None:
    """Lets the group's waiting members look again, once the change is committed."""
    tell = partial(wakeup.announce_partitions, settled.partition_ids)
    transaction.on_commit(tell, robust=True)


def known_form(group: str, member_id: str) -> str:
    """The member id, if it looks like one; raises `UnknownMember`."""
    if not _MEMBER_ID.fullmatch(member_id):
        raise unknown(group, member_id)
    return member_id


def unknown(group: str, member_id: str) -> UnknownMember:
    """The answer to a member that never joined, left, or was not heard of in time."""
    return UnknownMember(
        f"{shown(member_id)} is no member of {group}: it never joined, has left, or its session ended; join again"
    )


# -- rules: each runs in the transaction that it locks the group in ------------------------------------------------


def settle(group_id: int) -> Steps[Settled]:
    """Ends sessions that are over and divides again if that, or a change of partitions, asks for it."""
    generation = (yield SQL.lock, (group_id,))[0][0]
    ended = (yield SQL.end, (group_id, _NOBODY))[0][0]
    if not ended and not (yield SQL.undivided, (group_id,))[0][0]:
        return Settled(generation, 0, [])
    return (yield from _divide(group_id))._replace(ended=ended)


def _settle_soon(group_id: int) -> Steps[Settled]:
    yield SQL.limit_lock_wait, (f"{_LOCK_WAIT_MS}ms",)
    return (yield from settle(group_id))


def _join(group: str, subscription: Subscription) -> Steps[tuple[Joined, Settled]]:
    missing = yield SQL.missing_topics, (list(subscription.topics),)
    if missing:
        raise TopicNotFound(f"there is no topic {', '.join(row[0] for row in missing)}")
    group_id = (yield SQL.open, (group,))[0][0]
    ended = (yield SQL.end, (group_id, _NOBODY))[0][0]
    former: Rows = []
    if subscription.instance_id is not None:
        former = yield SQL.replace, (group_id, subscription.instance_id)
    live = yield SQL.live, (group_id,)
    if len(live) >= MAX_MEMBERS:
        raise Conflict(f"{group} has {len(live)} members already, which is the most")
    member_id = f"m-{secrets.token_hex(16)}"
    topics, reset, session_ms, interval_ms, instance_id = subscription
    asked = (group_id, member_id, list(topics), session_ms, interval_ms, reset, instance_id)
    row = (yield SQL.enrol, asked)[0][0]
    settled = None
    if former:
        generation = (yield SQL.inherit, (group_id, former[0][0], row))[0][0]
        if not ended and set(former[0][1]) == set(topics) and not (yield SQL.undivided, (group_id,))[0][0]:
            settled = Settled(generation, 0, [])
    settled = settled or (yield from _divide(group_id))
    yield SQL.hear, (settled.generation, row)
    owned = yield SQL.owned, (row,)
    return Joined(member_id, settled.generation, [Assigned(*found) for found in owned]), settled


def _leave(group: str, member_id: str) -> Steps[Settled]:
    rows = yield SQL.member, (member_id, group)
    if not rows:
        raise unknown(group, member_id)
    group_id, member, _ = rows[0]
    yield SQL.lock, (group_id,)
    if (yield SQL.member, (member_id, group))[0][2] is not None:
        raise unknown(group, member_id)
    ended = (yield SQL.end, (group_id, member))[0][0]
    return (yield from _divide(group_id))._replace(ended=ended)


def _divide(group_id: int) -> Steps[Settled]:
    live = yield SQL.live, (group_id,)
    subscriptions = {member: frozenset(topics) for member, topics in live}
    wanted: Iterable[str] = sorted(frozenset().union(*subscriptions.values()))
    found = yield SQL.divisible, (group_id, wanted)
    partitions: Sequence[tuple[int, str]] = [(partition, topic) for partition, topic, _ in found]
    owners = {partition: owner for partition, _, owner in found if owner is not None}
    division = assignor.divide(subscriptions, partitions, owners)
    generation = (yield SQL.divide, (group_id, list(division), list(division.values())))[0][0]
    return Settled(generation, 0, list(division))
