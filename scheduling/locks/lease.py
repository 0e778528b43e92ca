"""A lock that was acquired: the handle that callers have (`Lock`), and what is known of it behind all of its handles.

Times that decide anything are the database's; the monotonic clock only tells when to expect the end.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import datetime

from scheduling import metrics
from scheduling.locks import store
from scheduling.locks.errors import InvalidLock, LockFinished, LockLost
from scheduling.locks.store import Held
from scheduling.locks.terms import Duration, Terms, check

log = logging.getLogger("waystation.locks")


class Lease:
    """One acquisition, from the lock's being taken to its being given back or lost. Used by any thread."""

    def __init__(self, terms: Terms, locked_by: str, held: Held, asked_at: float) -> None:
        self.terms = terms
        self.locked_by = locked_by
        self.held = held
        self.is_lost = False
        self.is_over = False
        """Unlocked, or lost."""
        self.is_fenced = False
        """A transaction holds the lock's row, until it ends."""
        self._lapses_at = asked_at + terms.at_most_ms / 1000
        self._turn = 0
        self._mutex = threading.Lock()

    def lock(self) -> Lock:
        """The handle that is valid now."""
        return Lock(self, self._turn, self.held.locked_at, self.held.until)

    def seconds_left(self) -> float:
        """An estimate, and never too long: until when nobody else can take the lock."""
        return self._lapses_at - time.monotonic()

    def extend(self, terms: Terms, turn: int | None = None) -> bool:
        """Has it last from now; False when it was lost. Raises `LockFinished` for another than the valid turn."""
        with self._mutex:
            self._check(turn)
            asked_at = time.monotonic()
            held = store.extend(self.terms.name, terms.at_most_ms, self.locked_by)
            self._turn += 1
            if held is None:
                self.is_lost = self.is_over = True
                metrics.locks_lost.inc()
                return False
            self.held, self.terms, self._lapses_at = held, terms, asked_at + terms.at_most_ms / 1000
            return True

    def unlock(self, turn: int | None = None) -> bool:
        """Gives it back; False when another had it by now. Raises `LockFinished`, as `extend` does."""
        with self._mutex:
            self._check(turn)
            self.is_over = True
            held = store.unlock(self.terms.name, self.terms.at_least_ms, self.locked_by)
            self.is_lost = held is None
            (metrics.locks_lost if self.is_lost else metrics.locks_released).inc()
            return not self.is_lost

    def _check(self, turn: int | None) -> None:
        if self.is_over or turn not in (None, self._turn):
            raise LockFinished(f"the lock {self.terms.name} is not valid: it has been unlocked or extended already")


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that is held. `extend` answers its successor, and this one is finished then."""

    _lease: Lease
    _turn: int
    locked_at: datetime
    """When it was acquired, by the database's clock."""
    until: datetime
    """When it lapses, by the database's clock, if it is neither extended nor unlocked."""

    @property
    def name(self) -> str:
        """The lock's name."""
        return self._lease.terms.name

    @property
    def locked_by(self) -> str:
        """What the table says who holds it; never twice the same."""
        return self._lease.locked_by

    def extend(self, at_most_for: Duration | None = None, at_least_for: Duration | None = None) -> Lock:
        """Has the lock held for `at_most_for` from now, by default as long as it was asked for at first.

        Commits at once, outside of any transaction. Raises `LockLost` when it has lapsed or was released by force,
        `LockFinished` when this handle was extended or unlocked before, `InvalidLock` for one that is kept alive, and
        `Unavailable`. (After ShedLock's `SimpleLock.extend`.)
        """
        return extend(self._lease, at_most_for, at_least_for, self._turn)

    def unlock(self) -> bool:
        """Gives the lock back; it stays held until `at_least_for` since its acquisition is over.

        False when another had taken it: then the work may have overlapped. Raises `LockFinished` the second time, and
        `Unavailable`. The end of a `with` block unlocks by itself.
        """
        from scheduling.locks.keep_alive import keeper

        keeper().forget(self._lease)
        return self._lease.unlock(self._turn)


def extend(lease: Lease, at_most_for: Duration | None, at_least_for: Duration | None, turn: int | None = None) -> Lock:
    """`Lock.extend`, of whatever handle is valid where no `turn` is given."""
    terms = lease.terms
    if terms.keep_alive:
        raise InvalidLock(f"the lock {terms.name} is kept alive: it is extended by itself")
    at_most = terms.at_most_ms if at_most_for is None else at_most_for
    at_least = terms.at_least_ms if at_least_for is None else at_least_for
    if not lease.extend(check(terms.name, at_most, at_least), turn):
        raise LockLost(f"the lock {terms.name} cannot be extended: it has lapsed, or was released by force")
    return lease.lock()


def acquire(terms: Terms) -> Lease | None:
    """Takes the lock; None when another has it. Raises `Unavailable`."""
    asked_at, locked_by = time.monotonic(), store.holder()
    held = store.acquire(terms.name, terms.at_most_ms, locked_by)
    (metrics.locks_contended if held is None else metrics.locks_acquired).inc()
    return None if held is None else Lease(terms, locked_by, held, asked_at)
