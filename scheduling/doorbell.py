"""Tells Celery's workers that there are runs to be done. A lost ring costs seconds, never a run.

Messages carry ids of runs and nothing else: one, or several where many runs are due at once. While Redis is away
nothing is sent for a few seconds; the leading beat finds what nobody was told of and rings again. Called after the
commit by whoever made a run, and by the beat.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from kombu import pools
from kombu.exceptions import BatchPublishError, OperationalError

from scheduling.celery_app import TASK, app
from scheduling.identity import queue_name

log = logging.getLogger("waystation.scheduling")

PAUSE_SECONDS: Final = 3.0
"""How long nobody tries again after Redis was away."""
_RETRY: Final = {"max_retries": 1, "interval_start": 0.05, "interval_step": 0.05, "interval_max": 0.1}
_PATIENCE: Final = {"socket_connect_timeout": 1.0, "socket_timeout": 0.5}
"""Seconds for a Redis that does not answer: beats have a lease to renew meanwhile, and callers wait."""
TOGETHER: Final = 100
"""Runs whose messages are sent at once: the workers begin with the first of them while the next are made."""
MESSAGES: Final = 20
"""As many runs have a message each; of more than that several share one, which costs workers less."""
MOST_IN_MESSAGE: Final = 10


class Doorbell:
    """One process's; keeps its connections to Redis in a pool."""

    def __init__(self) -> None:
        self._silent_until = 0.0

    def ring(self, run: int) -> bool:
        """Tells the workers of a run; False when that was not possible now. Takes two seconds at most."""
        if time.monotonic() < self._silent_until:
            return False
        try:
            _send(run)
        except OperationalError as error:
            self._rest(error)
            return False
        return True

    def ring_all(self, runs: Iterable[int]) -> list[int]:
        """Tells the workers of many runs; answers those of them that workers were surely told of."""
        told: list[int] = []
        waiting = list(runs)
        in_message = min(max(len(waiting) // MESSAGES, 1), MOST_IN_MESSAGE)
        for first in range(0, len(waiting), TOGETHER):
            together = waiting[first : first + TOGETHER]
            if time.monotonic() < self._silent_until or not self._ring_together(together, in_message):
                break
            told += together
        return told

    def _ring_together(self, runs: Sequence[int], in_message: int) -> bool:
        try:
            _send_together(runs, in_message)
        except BatchPublishError:  # the connection was lost since its last use, as by a restart: another is made
            return self._ring_again(runs, in_message)
        except OperationalError as error:
            self._rest(error)
            return False
        return True

    def _ring_again(self, runs: Sequence[int], in_message: int) -> bool:
        """For messages of which nobody knows whether they were sent: to be told twice of a run does no harm."""
        try:
            _send_together(runs, in_message)
        except (BatchPublishError, OperationalError) as error:
            self._rest(error)
            return False
        return True

    def _rest(self, error: Exception) -> None:
        self._silent_until = time.monotonic() + PAUSE_SECONDS
        log.warning("workers cannot be told of runs: redis is away", extra={"error": str(error)})


def _send(run: int) -> None:
    """Raises `OperationalError`."""
    with _producers().acquire(block=True) as producer:
        _send_by(producer, [run])


def _send_by(producer: Any, runs: Sequence[int]) -> None:
    app.send_task(
        TASK, tuple(runs), queue=queue_name(), producer=producer, ignore_result=True, retry=True, retry_policy=_RETRY
    )


def _send_together(runs: Sequence[int], in_message: int) -> None:
    """Raises `BatchPublishError` too, when it is not known what was sent."""
    with _producers().acquire(block=True) as producer, producer.batch(TOGETHER):
        for first in range(0, len(runs), in_message):
            _send_by(producer, runs[first : first + in_message])


@functools.cache
def _producers() -> Any:
    """Connections of their own: those of workers wait for messages, and are given more time."""
    return pools.producers[app.connection_for_write(transport_options=_PATIENCE)]


doorbell = Doorbell()
