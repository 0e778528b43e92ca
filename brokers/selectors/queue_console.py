"""What the console alone asks of queues and exchanges: marks of a list, claims and consumers, where an exchange leads.

Everything here is bounded and changes nothing. Lists and figures are those of `queues` and `exchanges` beside it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from brokers.database import sync_cursor
from brokers.errors import NotFound, PolicyNotFound, shown
from brokers.queues.declared import QueueInfo, Settings
from brokers.queues.message import Message, read
from brokers.selectors.queues import QueueDetail
from brokers.sql import load

SQL = load("queue_console")

HELD_SHOWN: Final = 50
CONSUMERS_SHOWN: Final = 200
POLICIES_SHOWN: Final = 200
MATCHES_SHOWN: Final = 100
LINKS_READ: Final = 400
BODY_BYTES_READ: Final = 1000
"""Of each body in a list of messages."""
_PLACE = re.compile(r"([012])\.([0-9]{1,17})\.([0-9]{1,18})", re.ASCII)

State = Literal["paused", "waiting", "growing", "active", "idle"]


class Marks(NamedTuple):
    """Open dead letters of a queue, and by how many messages it is longer than five minutes ago."""

    dead_letters: int
    growth: int


class Held(NamedTuple):
    """A message under a claim. `left_ms` is what is left of its lease, below 0 when that is over."""

    row: int
    id: int
    holder: str
    claimed_at: datetime | None
    lease_until: datetime
    left_ms: int
    deliveries: int
    returns: int
    attempts: int


class Seen(NamedTuple):
    """A message in a list: with the beginning of its body only, the length of all of it, and its place in the list."""

    message: Message
    size: int
    place: str


class Consumer(NamedTuple):
    """Who consumes a queue. `left_ms`: until it counts as gone unless it is heard of."""

    name: str
    kind: str
    prefetch: int
    registered_at: datetime
    left_ms: int

    @property
    def is_live(self) -> bool:
        """Whether it was heard of in time."""
        return self.left_ms > 0


class Step(NamedTuple):
    """All bindings between two places, or with no bindings the way to an alternate exchange."""

    source: str
    destination: str
    is_queue: bool
    bindings: int
    routing_key: str
    """Of one of them."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy; `matching` queues have a name that it matches, whichever policy applies to them."""

    name: str
    pattern: str
    priority: int
    settings: Settings
    matching: int


def marks(queue_ids: Sequence[int]) -> dict[int, Marks]:
    """By queue; one that is not there is left out."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.marks, (list(queue_ids),)).fetchall()
    return {queue_id: Marks(*figures) for queue_id, *figures in rows}


def state(queue: QueueDetail, growth: int) -> State:
    """How a queue does: paused; messages wait and nobody takes any; it grows; messages are taken; nothing happens."""
    if queue.paused:
        return "paused"
    is_served = bool(queue.consumers or queue.unacknowledged or queue.departure_rate)
    if queue.ready and not is_served:
        return "waiting"
    if growth > 0 and queue.ready:
        return "growing"
    return "active" if is_served else "idle"


def look(queue: QueueInfo, after: str = "", limit: int = 50) -> list[Seen]:
    """Messages after a place: ready ones as they will be handed out, delayed ones, those under a claim. Takes nothing.

    As `claims.peek`, and reads of each body only what a list shows.
    """
    match = _PLACE.fullmatch(after)
    kind, major, minor = map(int, match.groups()) if match is not None else (0, 0, -1)
    asked = {
        "queue": queue.id,
        "most": queue.max_priority or 0,
        "kind": kind,
        "major": major,
        "minor": minor,
        "limit": limit,
        "bytes": BODY_BYTES_READ,
    }
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.look, asked, binary=True).fetchall()
    return [Seen(read(row[4:], queue.name), row[3], "{}.{}.{}".format(*row[:3])) for row in rows]


def message(queue: QueueInfo, row: int) -> Message:
    """One message of a queue, whole, by its own row; raises `NotFound`."""
    with sync_cursor() as cursor:
        found = cursor.execute(SQL.message, (row, queue.id), binary=True).fetchone()
    if found is None:
        raise NotFound(f"the message is not in queue {queue.name} any more: it was handled, moved or given up")
    return read(found, queue.name)


def held(queue_id: int) -> list[Held]:
    """The first `HELD_SHOWN` messages under a claim, by the end of their lease."""
    with sync_cursor() as cursor:
        return [Held(*row) for row in cursor.execute(SQL.held, (queue_id, HELD_SHOWN)).fetchall()]


def consumers(queue_id: int) -> list[Consumer]:
    """Up to `CONSUMERS_SHOWN` consumers in the order in which they came, those heard of too long ago among them."""
    with sync_cursor() as cursor:
        return [Consumer(*row) for row in cursor.execute(SQL.consumers, (queue_id, CONSUMERS_SHOWN)).fetchall()]


def reach(exchange: str) -> list[Step]:
    """Where an exchange leads, its own bindings first: up to `LINKS_READ` steps, alternate exchanges among them."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.reach, {"exchange": exchange, "limit": LINKS_READ}).fetchall()
    return [Step(*row[:5]) for row in rows]


def policies() -> list[Policy]:
    """Up to `POLICIES_SHOWN` policies, those first that win over others."""
    with sync_cursor() as cursor:
        return [_policy(row) for row in cursor.execute(SQL.policies, (POLICIES_SHOWN,)).fetchall()]


def policy(name: str) -> Policy:
    """One policy; raises `PolicyNotFound`."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.policy, (name,)).fetchone()
    if row is None:
        raise PolicyNotFound(f"there is no policy {shown(name)}")
    return _policy(row)


def matching(pattern: str) -> list[str]:
    """Names of up to `MATCHES_SHOWN` queues that match the pattern of a policy."""
    with sync_cursor() as cursor:
        return [row[0] for row in cursor.execute(SQL.matching, (pattern, MATCHES_SHOWN)).fetchall()]


def _policy(row: tuple[Any, ...]) -> Policy:
    name, pattern, priority, *settings, matched = row
    return Policy(name, pattern, priority, Settings(*settings), matched)
