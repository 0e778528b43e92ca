"""The worker's own session: it holds the slot, and keeps the sessions of members and the leases of consumers alive.

The slot is a session-level advisory lock, the lowest number that is free: PostgreSQL ends the session of a killed
worker at once, so its successor gets the same slot, and with it the same instance ids and partitions. A worker that is
stopped (SIGSTOP) keeps its slot, and loses its partitions when its members' sessions time out.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from brokers.database import conninfo, store_errors
from brokers.errors import Unavailable
from brokers.listeners import leases
from brokers.listeners.leases import Lease
from brokers.sql import load

SQL = load("listeners")
log = logging.getLogger("waystation.listeners")

SLOT_CLASS: Final = 0x57415954
"""First half of the advisory locks' keys; the second is the slot."""
MAX_SLOTS: Final = 10_000
LONGEST_BEAT_SECONDS: Final = 2.0
SHORTEST_BEAT_SECONDS: Final = 0.02
AWAY_SECONDS: Final = 0.5
_JOIN_SECONDS: Final = 2.0


@dataclass(eq=False)
class Pulse:
    """One member as the keeper sees it."""

    member: int
    """Row of the member."""
    beat_seconds: float
    """How often its heartbeat is due."""
    moved_at: float = field(default_factory=time.monotonic)
    """When its thread last did something."""
    is_over: bool = False
    """Its session has ended: somebody else has its partitions."""

    def idle_seconds(self) -> float:
        """How long the thread has made no progress."""
        return time.monotonic() - self.moved_at

    def move(self) -> None:
        """The thread makes progress."""
        self.moved_at = time.monotonic()


class Keeper:
    """The thread that holds the slot and beats, from entry to exit of a `with` block."""

    def __init__(self) -> None:
        self.slot: int | None = None
        """The slot held; while the session is lost, the one held last."""
        self._changed = threading.Condition()
        self._pulses: frozenset[Pulse] = frozenset()
        self._leases: frozenset[Lease] = frozenset()
        self._stopping = False
        self._away = False
        self._thread = threading.Thread(target=self._run, name="waystation-keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(_JOIN_SECONDS)

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def wait_for_slot(self, seconds: float) -> int | None:
        """The slot, waiting for it at the start; None while there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self.slot is not None or self._stopping, seconds)
            return self.slot

    def add(self, pulse: Pulse) -> None:
        """A member has joined."""
        with self._changed:
            self._pulses |= {pulse}
            self._changed.notify_all()

    def remove(self, pulse: Pulse) -> None:
        """A member is over."""
        with self._changed:
            self._pulses -= {pulse}

    def add_lease(self, lease: Lease) -> None:
        """A consumer of a queue has begun."""
        with self._changed:
            self._leases |= {lease}
            self._changed.notify_all()

    def remove_lease(self, lease: Lease) -> None:
        """A consumer is over."""
        with self._changed:
            self._leases -= {lease}

    def _run(self) -> None:
        while not self._stopping:
            try:
                with store_errors(), self._connect() as session:
                    self._take_slot(session)
                    self._away = False
                    while not self._stopping:
                        self._beat(session)
                        leases.keep(session, self._leases)
                        self._rest()
            except Unavailable as error:
                if not self._away and not self._stopping:
                    log.warning("the database is away", extra={"error": error.detail})
                self._away = True
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, AWAY_SECONDS)

    def _rest(self) -> None:
        """Until the next heartbeat is due, or somebody has joined, who may want it sooner."""
        with self._changed:
            pulses, held = self._pulses, self._leases
            self._changed.wait_for(
                lambda: self._stopping or bool(self._pulses - pulses) or bool(self._leases - held), self._pause()
            )

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        # A heartbeat that a crash of the server loses is as one never sent: it need not reach the disk.
        options = f"{conninfo_to_dict(conninfo()).get('options', '')} -c synchronous_commit=off"
        return psycopg.connect(conninfo(), autocommit=True, application_name="waystation-worker", options=options)

    def _take_slot(self, session: psycopg.Connection[tuple[Any, ...]]) -> None:
        """The slot held before, if nobody has taken it meanwhile; else the lowest that is free."""
        first = [] if self.slot is None else [self.slot]
        for slot in (*first, *range(1, MAX_SLOTS)):
            row = session.execute(SQL.take_slot, (SLOT_CLASS, slot)).fetchone()
            if row is not None and row[0]:
                with self._changed:
                    if slot != self.slot:
                        log.info("slot taken", extra={"slot": slot})
                    self.slot = slot
                    self._changed.notify_all()
                return
        raise Unavailable(f"all {MAX_SLOTS} slots are taken")

    def _beat(self, session: psycopg.Connection[tuple[Any, ...]]) -> None:
        pulses = {pulse.member: pulse for pulse in self._pulses}
        if not pulses:
            session.execute("select 1")  # finds out whether the slot is still held
            return
        now = time.monotonic()
        idle = [max(0, int((now - pulse.moved_at) * 1000)) for pulse in pulses.values()]
        for (member,) in session.execute(SQL.beat, (list(pulses), idle)).fetchall():
            pulses[member].is_over = True

    def _pause(self) -> float:
        beats = [pulse.beat_seconds for pulse in self._pulses] + [lease.beat_seconds for lease in self._leases]
        wanted = min(beats, default=LONGEST_BEAT_SECONDS)
        return max(SHORTEST_BEAT_SECONDS, min(wanted, LONGEST_BEAT_SECONDS))
