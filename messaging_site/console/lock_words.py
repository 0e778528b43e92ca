"""The console's words for locks: how one stands, whether its holder lives, and which tasks take it.

Whether a process lives is known for one of this host, and for one that a lease or a report is renewed by; of any other
nothing is said. Used by the views of locks.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from messaging_site.console.failure_words import Word
from scheduling.executors import reports
from scheduling.locks.listing import LockRow
from scheduling.tasks import board
from scheduling.tasks.board import LockUse

HELD: Final = Word("ok", "ok", "Held")
EXPIRING: Final = Word("clock", "warn", "Expiring")
KEPT: Final = Word("clock", "mute", "Kept")
EXPIRED: Final = Word("cross", "mute", "Expired")
FREE: Final = Word("ring", "mute", "Free")
TITLES: Final = {
    HELD: "Nobody else can take it",
    EXPIRING: "Nine tenths of its time are over: it is unlocked, extended or lost soon",
    KEPT: "Its work is done; nobody can take it before the time is over that it is kept for at least",
    EXPIRED: "Held until its time was over: its holder overran or was lost, or it was to be held for at least so long",
    FREE: "Whoever comes next gets it",
}
ALIVE: Final = Word("ok", "ok", "Alive")
GONE: Final = Word("cross", "bad", "Gone")


@dataclass(frozen=True, slots=True)
class Holder:
    """Whether the process that holds a lock lives, and how that is known; no word: it is not known."""

    word: Word | None
    why: str


UNKNOWN: Final = Holder(None, "Whether its process lives is not known here")


def state(lock: LockRow, uses: Sequence[LockUse]) -> Word:
    """How a lock stands."""
    if not lock.is_held:
        return EXPIRED if lock.has_run_out else FREE
    if _is_kept(lock, uses):
        return KEPT
    whole = lease_of(lock, uses)
    return EXPIRING if whole is not None and (lock.until - lock.now) * 10 < whole else HELD


def lease_of(lock: LockRow, uses: Sequence[LockUse]) -> timedelta | None:
    """How long a lease of the lock lasts; None for one that was extended by who knows how much."""
    if not is_renewed(lock):
        return lock.until - lock.locked_at
    longest = max((use.at_most_ms for use in uses), default=None)
    return None if longest is None else timedelta(milliseconds=longest)


def _is_kept(lock: LockRow, uses: Sequence[LockUse]) -> bool:
    """Whether it was unlocked, and stays held for the rest of a task's `at_least_for`."""
    whole = lock.until - lock.locked_at
    return any(whole == timedelta(milliseconds=use.at_least_ms) for use in uses if use.at_least_ms < use.at_most_ms)


def is_renewed(lock: LockRow) -> bool:
    """Whether a held lock was extended since it was taken: its time is then no whole number of milliseconds."""
    return lock.is_held and (lock.until - lock.locked_at).microseconds % 1000 != 0


def holders(locks: Sequence[LockRow]) -> dict[str, Holder]:
    """What is known of the holders of those that are held, by the locks' names. Raises `Unavailable`."""
    here, found, elsewhere = socket.gethostname(), {}, []
    for lock in locks:
        if not lock.is_held or lock.pid is None:
            continue
        if lock.host == here:
            found[lock.name] = _of_this_host(lock.pid)
        else:
            elsewhere.append(lock)
    return found | (_of_other_hosts(elsewhere) if elsewhere else {})


def _of_this_host(pid: int) -> Holder:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return Holder(GONE, f"No process of this host has the id {pid}")
    except (PermissionError, OverflowError):
        pass
    return Holder(ALIVE, f"A process of this host has the id {pid}")


def _of_other_hosts(locks: Sequence[LockRow]) -> dict[str, Holder]:
    heard = board.at_work([f"{lock.host}:{lock.pid}" for lock in locks])
    heard |= {f"{report.host}:{report.pid}" for report in reports.reports()}
    alive = Holder(ALIVE, "Its process was heard of within the last seconds")
    return {lock.name: alive for lock in locks if f"{lock.host}:{lock.pid}" in heard}
