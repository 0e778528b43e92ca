"""What the leading beat does every few seconds besides firing: nothing stays undone because a process was killed."""

from __future__ import annotations

import logging
from typing import Final

from scheduling import metrics, runs
from scheduling.beat import unheard
from scheduling.connections import OwnConnection
from scheduling.doorbell import doorbell
from scheduling.durable import giving_up
from scheduling.tasks import store

log = logging.getLogger("waystation.beat")

SECONDS: Final = 2.0
"""A killed worker's run waits for its lease to lapse, and at most so long beyond it."""
MAX_UNHEARD: Final = 1000
"""Rings in Celery's queue beyond which nobody rings again: the workers are behind, and can be told later."""
KEPT_DAYS: Final = 30
"""How long ended runs are kept."""


def sweep(connection: OwnConnection) -> None:
    """Takes runs from workers that are gone, rings for what nobody began, and forgets what is old.

    Raises `Unavailable`.
    """
    if lost := runs.lose(connection):
        metrics.runs_lost.inc(lost)
        log.warning("workers were gone in the middle of runs", extra={"runs": lost})
    if poison := giving_up.give_up_poison(connection):
        metrics.runs_lost.inc(poison)
        log.error("background work was given up, since its workers were lost in it", extra={"runs": poison})
    store.revive(connection)
    waiting = runs.unrung(connection)
    if waiting and unheard.count() < MAX_UNHEARD:
        runs.rung(connection, doorbell.ring_all(waiting))
    runs.purge(connection, KEPT_DAYS)
