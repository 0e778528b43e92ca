"""What the leading beat does every few seconds besides firing: nothing stays undone because a process was killed."""

from __future__ import annotations

import logging
from typing import Final

from scheduling import runs
from scheduling.connections import OwnConnection
from scheduling.doorbell import doorbell
from scheduling.tasks import store

log = logging.getLogger("waystation.beat")

SECONDS: Final = 5.0
KEPT_DAYS: Final = 30
"""How long ended runs are kept."""


def sweep(connection: OwnConnection) -> None:
    """Takes runs from workers that are gone, rings for what nobody began, and forgets what is old.

    Raises `Unavailable`.
    """
    if lost := runs.lose(connection):
        log.warning("workers were gone in the middle of runs", extra={"runs": lost})
    store.revive(connection)
    waiting = runs.unrung(connection)
    if waiting:
        runs.rung(connection, doorbell.ring_all(waiting))
    runs.purge(connection, KEPT_DAYS)
