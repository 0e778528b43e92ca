"""Locks over all servers of a database, compatible with ShedLock; what applications use of them."""

from scheduling.locks.active import assert_locked, extend_lock
from scheduling.locks.errors import InvalidLock, LockFinished, LockLost, NotLocked
from scheduling.locks.fencing import fence
from scheduling.locks.guard import SchedulerLock, scheduler_lock
from scheduling.locks.lease import Lock

__all__ = [
    "InvalidLock",
    "Lock",
    "LockFinished",
    "LockLost",
    "NotLocked",
    "SchedulerLock",
    "assert_locked",
    "extend_lock",
    "fence",
    "scheduler_lock",
]
