"""Keeps locks alive: one thread of the process extends each when half of its time is over.

After ShedLock's `KeepAliveLockProvider`. There the time that is left of `lockAtLeastFor` shrinks with each extension;
here `at_least_for` counts from the acquisition anyway, and stays. The thread ends when there is nothing to keep.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Final

import psycopg

from brokers.errors import Unavailable
from scheduling.locks.errors import LockFinished
from scheduling.locks.lease import Lease

log = logging.getLogger("waystation.locks")

AGAIN_SECONDS: Final = 1.0
"""After a failed attempt, while the lease lasts."""
LINGER_SECONDS: Final = 10.0


class Keeper:
    """One process's; holds no more than the locks that its threads hold."""

    def __init__(self) -> None:
        self._due: dict[Lease, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def keep(self, lease: Lease) -> None:
        """Extends it from now on, until it is forgotten or lost."""
        with self._changed:
            self._due[lease] = time.monotonic() + lease.terms.at_most_ms / 2000
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lock-keeper", daemon=True)
                self._thread.start()
            self._changed.notify()

    def forget(self, lease: Lease) -> None:
        """Extends it no more."""
        with self._changed:
            self._due.pop(lease, None)

    def _run(self) -> None:
        while (lease := self._next()) is not None:
            again = self._extend(lease)
            with self._changed:
                if lease in self._due:
                    if again is None:
                        del self._due[lease]
                    else:
                        self._due[lease] = again

    def _next(self) -> Lease | None:
        """Waits for a lease that is due; None when there was none for a while, and the thread is done."""
        with self._changed:
            while True:
                if not self._due:
                    if not self._changed.wait(LINGER_SECONDS) and not self._due:
                        self._thread = None
                        return None
                    continue
                lease, due = min(self._due.items(), key=lambda each: each[1])
                seconds = due - time.monotonic()
                if seconds <= 0:
                    return lease
                self._changed.wait(seconds)

    def _extend(self, lease: Lease) -> float | None:
        """Extends a lease; when to do it again, or None."""
        name = lease.terms.name
        try:
            if lease.extend(lease.terms):
                return time.monotonic() + lease.terms.at_most_ms / 2000
        except LockFinished:
            return None
        except (Unavailable, psycopg.Error) as error:
            if lease.seconds_left() > 0:
                log.warning("a lock cannot be extended now", extra={"lock": name, "error": str(error)})
                return time.monotonic() + AGAIN_SECONDS
        log.error("a lock was lost: another may hold it by now", extra={"lock": name, "holder": lease.locked_by})
        return None


_keeper = Keeper()


def keeper() -> Keeper:
    """This process's."""
    return _keeper


def _begin_anew() -> None:
    global _keeper
    _keeper = Keeper()


os.register_at_fork(after_in_child=_begin_anew)
