"""Which beat fires: the one that holds the lock `waystation:beat`, for a lease of seconds that it renews.

Times are counted from before each call, so this process never believes in its lease for longer than the database does.
Called by the beat's scheduler.
"""

from __future__ import annotations

import time
from typing import Final

from scheduling.locks import store as locks
from scheduling.tasks.store import BEAT_LOCK

LEASE_MS: Final = 4_000
"""How long after the leader's death another leads, at most, and half a second more."""
RENEW_SECONDS: Final = LEASE_MS / 1000 / 3


class Leadership:
    """What one beat knows of it."""

    def __init__(self) -> None:
        self.me = locks.holder()
        """The lock's holder, while this beat leads; another at each time that it takes the lock."""
        self._renewed_at: float | None = None
        self._is_doubted = False

    @property
    def holds(self) -> bool:
        """Whether this beat led when it last looked, and its lease has not run out since."""
        return self._renewed_at is not None and time.monotonic() < self._renewed_at + LEASE_MS / 1000

    def hold(self) -> bool:
        """Keeps or takes the lead, where that is due; whether this beat leads. Raises `Unavailable`."""
        now = time.monotonic()
        if self._renewed_at is not None:
            if not self._is_doubted and now < self._renewed_at + RENEW_SECONDS:
                return True
            self._is_doubted = False
            if locks.extend(BEAT_LOCK, LEASE_MS, self.me) is not None:
                self._renewed_at = now
                return True
            self._renewed_at = None
            now = time.monotonic()
        self.me = locks.holder()
        if locks.acquire(BEAT_LOCK, LEASE_MS, self.me) is not None:
            self._renewed_at = now
        return self._renewed_at is not None

    def doubt(self) -> None:
        """Has the next `hold` ask the database."""
        self._is_doubted = True

    def rest(self) -> float:
        """Seconds until the lease should be renewed."""
        if self._renewed_at is None or self._is_doubted:
            return 0.0
        return max(self._renewed_at + RENEW_SECONDS - time.monotonic(), 0.0)

    def resign(self) -> None:
        """Lets another lead at once. Raises `Unavailable`."""
        if self._renewed_at is not None:
            self._renewed_at = None
            locks.unlock(BEAT_LOCK, 0, self.me)
