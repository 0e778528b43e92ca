"""What locks refuse. A lock that another has is no error: the work is skipped."""

from __future__ import annotations

from brokers.errors import BrokerError, Conflict, InvalidValue, LockNotFound

__all__ = ["InvalidLock", "LockChanged", "LockFinished", "LockLost", "LockNotFound", "NotLocked"]


class InvalidLock(InvalidValue):
    """A lock's name or durations make no sense."""

    code = "invalid_lock"


class LockFinished(Conflict):
    """The lock was unlocked or extended already: only what `extend` answered may be used after it."""

    code = "lock_finished"


class LockLost(Conflict):
    """The lock has lapsed, or was released by force; another may hold it."""

    code = "lock_lost"


class LockChanged(Conflict):
    """Another holds the lock by now; nothing was released."""

    code = "lock_changed"


class NotLocked(BrokerError):
    """The code ran without the lock that it needs."""

    code = "not_locked"
