"""Tells Celery's workers that there are runs to be done. A lost ring costs seconds, never a run.

Messages carry a run's id and nothing else. While Redis is away nothing is sent for a few seconds; the leading beat
finds what nobody was told of and rings again. Called after the commit by whoever made a run, and by the beat.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Final

from kombu.exceptions import OperationalError

from scheduling.celery_app import TASK, app
from scheduling.identity import queue_name

log = logging.getLogger("waystation.scheduling")

PAUSE_SECONDS: Final = 3.0
"""How long nobody tries again after Redis was away."""
_RETRY: Final = {"max_retries": 1, "interval_start": 0.05, "interval_step": 0.05, "interval_max": 0.1}


class Doorbell:
    """One process's; keeps its connections to Redis in Celery's pool."""

    def __init__(self) -> None:
        self._silent_until = 0.0

    def ring(self, run: int) -> bool:
        """Tells the workers of a run; False when that was not possible now. Takes a tenth of a second at most."""
        if time.monotonic() < self._silent_until:
            return False
        try:
            app.send_task(TASK, (run,), queue=queue_name(), ignore_result=True, retry=True, retry_policy=_RETRY)
        except OperationalError as error:
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            log.warning("workers cannot be told of runs: redis is away", extra={"error": str(error)})
            return False
        return True

    def ring_all(self, runs: Iterable[int]) -> list[int]:
        """`ring` for many; answers those that workers were told of."""
        return [run for run in runs if self.ring(run)]


doorbell = Doorbell()
