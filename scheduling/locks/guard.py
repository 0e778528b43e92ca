"""`scheduler_lock`: work that one process does at a time, over all servers of a database, Java's among them.

As a decorator and as a context manager, of synchronous and of asynchronous code. Called by applications and by the
worker of scheduled tasks.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from django.db import connection, transaction

from brokers.errors import Unavailable
from scheduling.locks import active, threads
from scheduling.locks import lease as leases
from scheduling.locks.active import Hold
from scheduling.locks.keep_alive import keeper
from scheduling.locks.lease import Lease, Lock
from scheduling.locks.terms import Duration, Terms, check

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("waystation.locks")


class SchedulerLock:
    """What `scheduler_lock` answers; may be used many times, by many threads."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    def acquire(self) -> Lock | None:
        """Takes the lock without a block: the caller unlocks it. None when another has it. Raises `Unavailable`."""
        lease = _begin(leases.acquire(self.terms))
        return None if lease is None else lease.lock()

    # -- a context manager ----------------------------------------------------------------------------------------

    def __enter__(self) -> Lock | None:
        hold = self._reentered() or self._hold(_begin(leases.acquire(self.terms)), is_owner=True)
        return _entered(hold)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease = self._left()
        if lease is None:
            return
        if lease.is_fenced and connection.in_atomic_block:  # its own transaction would keep it from being unlocked
            transaction.on_commit(lambda: _give_back(lease), robust=True)
        else:
            _give_back(lease)

    async def __aenter__(self) -> Lock | None:
        hold = self._reentered()
        if hold is None:
            hold = self._hold(_begin(await threads.acquire(self.terms, _give_back)), is_owner=True)
        return _entered(hold)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease = self._left()
        if lease is not None:
            await threads.release(lease, _give_back)

    def _reentered(self) -> Hold | None:
        lease = active.reentered(self.terms.name)
        return None if lease is None else self._hold(lease, is_owner=False)

    def _hold(self, lease: Lease | None, *, is_owner: bool) -> Hold:
        return Hold(self, lease, is_owner, active.here())

    def _left(self) -> Lease | None:
        """The lock that the block's end gives back."""
        hold = active.leave(self)
        if hold.lease is None or not hold.is_owner or hold.place[0] != active.here()[0]:
            return None
        return hold.lease

    # -- a decorator ----------------------------------------------------------------------------------------------

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T | None]]: ...

    @overload
    def __call__(self, function: Callable[P, T]) -> Callable[P, T | None]: ...

    def __call__(self, function: Callable[P, Any]) -> Callable[P, Any]:
        """The function under the lock; skipped, and answering None, when another has it."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{function.__qualname__} is a generator: its body runs after the lock would be given back; "
                "use the lock as a context manager inside of it"
            )
        return self._asynchronous(function) if inspect.iscoroutinefunction(function) else self._synchronous(function)

    def _synchronous(self, function: Callable[P, T]) -> Callable[P, T | None]:
        @functools.wraps(function)
        def locked(*args: P.args, **kwargs: P.kwargs) -> T | None:
            with self as lock:
                if lock is not None:
                    return function(*args, **kwargs)
            self._say_skipped(function)
            return None

        return locked

    def _asynchronous(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T | None]]:
        @functools.wraps(function)
        async def locked(*args: P.args, **kwargs: P.kwargs) -> T | None:
            async with self as lock:
                if lock is not None:
                    return await function(*args, **kwargs)
            self._say_skipped(function)
            return None

        return locked

    def _say_skipped(self, function: Callable[..., Any]) -> None:
        log.info("skipped: the lock is held", extra={"lock": self.terms.name, "function": function.__qualname__})


def scheduler_lock(
    name: str, at_most_for: Duration, at_least_for: Duration = 0, *, keep_alive: bool = False
) -> SchedulerLock:
    """A lock of one name for all processes that share the database, ShedLock's Java clients among them.

    `@scheduler_lock("report", at_most_for="PT30M", at_least_for="PT5M")` skips a call while another holds the lock,
    and then answers None. `with scheduler_lock(...) as lock:` runs its block in any case, with None for `lock` when
    another holds it: look at it first. `async with` and `async def` do not block the event loop.

    The lock is given back at the end; it stays held until `at_least_for` since its acquisition is over, so that clocks
    that differ a little, or a very short task, do not run it twice. A holder that dies keeps it for `at_most_for`; so
    does one that takes longer, and then two may run: see `fence`. With `keep_alive` a thread extends the lock each half
    of `at_most_for` (30 s or more) for as long as the process lives. A lock is never part of the caller's transaction.
    A thread or task that holds the lock runs what needs the same lock without taking it again.

    Durations are ISO 8601 (`PT30S`), milliseconds or a `timedelta`. Raises `InvalidLock` here and `Unavailable` when
    it is taken. (After ShedLock's `@SchedulerLock`.)
    """
    return SchedulerLock(check(name, at_most_for, at_least_for, keep_alive=keep_alive))


def _begin(lease: Lease | None) -> Lease | None:
    if lease is not None and lease.terms.keep_alive:
        keeper().keep(lease)
    return lease


def _entered(hold: Hold) -> Lock | None:
    active.enter(hold)
    return None if hold.lease is None else hold.lease.lock()


def _give_back(lease: Lease) -> None:
    """Unlocks what the block has not unlocked by itself; what goes wrong now is no failure of its work."""
    facts = {"lock": lease.terms.name, "holder": lease.locked_by}
    keeper().forget(lease)
    if lease.is_lost or (not lease.is_over and not _unlocked(lease)):
        log.warning("a lock was lost before its work was done: another may have run beside it", extra=facts)


def _unlocked(lease: Lease) -> bool:
    has_lapsed = lease.seconds_left() < 0
    try:
        return lease.unlock() and not has_lapsed
    except Unavailable as error:
        facts = {"lock": lease.terms.name, "until": lease.held.until.isoformat(), "error": error.detail}
        log.warning("a lock could not be given back, it lapses by itself", extra=facts)
        return True
