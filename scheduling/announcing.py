"""Tells open pages of the console that runs or scheduled tasks have changed: a hint over Redis, a few each second.

Thousands of runs a second make no more hints than one run does: what comes shortly after a hint goes with the next. A
lost hint costs a page the seconds until it looks again by itself. Called where runs begin and end, by the beat, and by
whoever changes a task; it returns at once and never fails.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Final

from brokers import wakeup

HINT: Final = "s"
"""The first and only letter of the hint (`brokers.wakeup`)."""
REST_SECONDS: Final = 0.25
"""The shortest time between two hints of one process."""


class Announcement:
    """One process's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told_at = -REST_SECONDS
        self._waiting: threading.Timer | None = None

    def tell(self) -> None:
        """Something has changed. Call it after the commit."""
        with self._lock:
            if self._waiting is not None and self._waiting.is_alive():  # not in a forked child
                return
            wait = self._told_at + REST_SECONDS - time.monotonic()
            if wait > 0:
                self._waiting = threading.Timer(wait, self._tell_now)
                self._waiting.name, self._waiting.daemon = "waystation-run-hints", True
                self._waiting.start()
                return
        self._tell_now()

    def _tell_now(self) -> None:
        with self._lock:
            self._waiting, self._told_at = None, time.monotonic()
        wakeup.announce_change(HINT, "")


_announcement = Announcement()


def _begin_anew() -> None:
    """In a forked child the timer is gone, and the lock may be held by it."""
    global _announcement
    _announcement = Announcement()


os.register_at_fork(after_in_child=_begin_anew)


def tasks_changed() -> None:
    """Runs began or ended, or a task was paused, declared or is due at another time. Call it after the commit."""
    _announcement.tell()
