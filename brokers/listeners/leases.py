"""What a queue's consumer holds, as the worker's keeper sees it: its messages' leases, and that it is there at all."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from brokers.queues.claims import Claim
from brokers.sql import load

SQL = load("leases")

CONSUMER_LAPSE_MS: Final = 10_000
"""A consumer that is not heard of for so long is over: as a member of a group."""
_SHARE: Final = 3
"""Renewed after the third part of the time."""


@dataclass(eq=False)
class Lease:
    """One consumer's; its thread says what it holds, the keeper renews that while the thread moves."""

    queue_id: int
    consumer: str
    lease_ms: int
    longest_seconds: float
    """How long a handler may run: what it holds lapses then."""
    claims: Collection[Claim] = ()
    moved_at: float = field(default_factory=time.monotonic)
    """When the thread last did something, or called its handler."""
    renewed_at: float = field(default_factory=time.monotonic)
    beaten_at: float = field(default_factory=time.monotonic)
    is_forgotten: bool = False
    """The database knows of no such consumer any more."""

    @property
    def beat_seconds(self) -> float:
        """How often the keeper has to look."""
        return min(self.lease_ms, CONSUMER_LAPSE_MS) / 1000 / _SHARE

    @property
    def is_over(self) -> bool:
        """Whether the handler has run for too long: then others have the messages."""
        return bool(self.claims) and time.monotonic() - self.moved_at > self.longest_seconds

    def move(self) -> None:
        """The thread makes progress."""
        self.moved_at = time.monotonic()

    def claimed(self, claims: Collection[Claim]) -> None:
        """The thread has claimed these just now, or extended them."""
        self.claims, self.renewed_at = claims, time.monotonic()


def keep(session: psycopg.Connection[tuple[Any, ...]], leases: Iterable[Lease]) -> None:
    """Renews what is due for it; raises what the driver raises."""
    now = time.monotonic()
    alive = [lease for lease in leases if not lease.is_over]
    held = [lease for lease in alive if lease.claims and now - lease.renewed_at >= lease.lease_ms / 1000 / _SHARE]
    rows = [(claim.row, claim.token, lease.lease_ms) for lease in held for claim in lease.claims]
    if rows:
        session.execute(SQL.extend, tuple(map(list, zip(*rows, strict=True))))
        for lease in held:
            lease.renewed_at = now
    due = [lease for lease in alive if now - lease.beaten_at >= CONSUMER_LAPSE_MS / 1000 / _SHARE]
    if due:
        asked = [(lease.queue_id, lease.consumer, CONSUMER_LAPSE_MS) for lease in due]
        known = set(session.execute(SQL.beat, tuple(map(list, zip(*asked, strict=True)))).fetchall())
        for lease in due:
            lease.beaten_at = now
            lease.is_forgotten = (lease.queue_id, lease.consumer) not in known
