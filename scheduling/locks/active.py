"""Which locks the running code holds: what `assert_locked`, `extend_lock` and re-entering a lock ask.

A lock belongs to the thread and the asyncio task that acquired it: only there it is re-entered. Code that runs with a
copy of that context, as in the threads of `sync_to_async`, may ask for it, extend it and use its fence while it lasts.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from scheduling.locks import lease as leases
from scheduling.locks.errors import NotLocked
from scheduling.locks.lease import Lease, Lock
from scheduling.locks.terms import Duration

Place = tuple[int, int, asyncio.Task[Any] | None]


@dataclass(slots=True, eq=False)
class Hold:
    """A block under a lock; without a lease, one that was not given the lock."""

    definition: object
    lease: Lease | None
    is_owner: bool
    """Whether it acquired the lock, and gives it back; not when it was re-entered."""
    place: Place
    is_over: bool = False


_holds: ContextVar[tuple[Hold, ...]] = ContextVar("waystation_locks", default=())


def here() -> Place:
    """The process, thread and task that run now."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return os.getpid(), threading.get_ident(), task


def enter(hold: Hold) -> None:
    """The block begins."""
    _holds.set((*_holds.get(), hold))


def leave(definition: object) -> Hold:
    """The innermost block of a definition ends."""
    for hold in reversed(_holds.get()):
        if hold.definition is definition:
            _holds.set(tuple(each for each in _holds.get() if each is not hold))
            hold.is_over = True
            return hold
    raise RuntimeError("the block under the lock ends in another context than it began")


def reentered(name: str) -> Lease | None:
    """The lock of that name, if this thread and task hold it."""
    place = here()
    return next((hold.lease for hold in _held(name) if hold.place == place), None)


def innermost(name: str | None = None) -> Lease:
    """The innermost lock that is held here, or that of the name; raises `NotLocked`."""
    for hold in _held(name):
        if hold.lease is not None:
            return hold.lease
    raise NotLocked("this code is not run under a lock" if name is None else f"the lock {name} is not held here")


def _held(name: str | None) -> Iterator[Hold]:
    """Blocks that hold a lock, or that of the name, the innermost first."""
    pid = os.getpid()
    for hold in reversed(_holds.get()):
        lease = hold.lease
        if lease is None or lease.is_over or hold.is_over or hold.place[0] != pid:
            continue
        if name is None or lease.terms.name == name:
            yield hold


def assert_locked(name: str | None = None) -> None:
    """Raises `NotLocked` unless this code runs under a lock, or under that of the name.

    It asks nobody: whether the lock has lapsed meanwhile, only `fence` tells. (After ShedLock's `LockAssert`.)
    """
    innermost(name)


def extend_lock(at_most_for: Duration | None = None, at_least_for: Duration | None = None) -> Lock:
    """Extends the innermost lock that is held here: it lapses `at_most_for` from now.

    Raises `NotLocked` without one, and what `Lock.extend` raises. (After ShedLock's `LockExtender`.)
    """
    return leases.extend(innermost(), at_most_for, at_least_for)
