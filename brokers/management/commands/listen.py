"""`manage.py listen`: a listener worker. It serves the applications' listeners, moves replays and keeps house."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
import time
from contextlib import ExitStack
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import close_old_connections

from brokers import declarations, processes
from brokers.errors import Unavailable
from brokers.housekeeping import OUTWARD, QUEUES, Background, Housekeeper
from brokers.listeners import reload
from brokers.listeners.queue_registration import declared_queue_listeners
from brokers.listeners.registration import declared_listeners
from brokers.listeners.worker import Worker
from brokers.processes import RENEW_SECONDS, Heartbeat
from brokers.replays.runner import Runner

log = logging.getLogger("waystation.listen")

DRAIN_SECONDS: Final = 4.0
"""How long handlers have at the end: less than `up` waits before it kills."""
END_SECONDS: Final = 5.2
"""How long all that is under way has together."""
LOOK_SECONDS: Final = 1.0
"""How often files are looked at in development."""


class Command(BaseCommand):
    """Runs until SIGTERM or SIGINT, then ends what it is doing and exits with 0.

    With DEBUG on it begins anew whenever a file that it has loaded changes.
    """

    help = "Runs a listener worker: the listeners of all apps, replays, and housekeeping."

    def handle(self, *args: Any, **options: Any) -> None:
        """Loops over what is due; while the database is away it tries again each second."""
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        declarations.discover()
        gc.collect()
        gc.freeze()  # what is loaded by now stays: the collector need not walk over it
        watched = reload.Watched() if settings.DEBUG else None
        processes.begin("listener")
        with ExitStack() as running:
            parts: list[Background | Runner | Worker] = [
                running.enter_context(Background()),
                running.enter_context(Background(OUTWARD)),
                running.enter_context(Background(QUEUES)),
                running.enter_context(Runner()),
                running.enter_context(Worker([*declared_listeners(), *declared_queue_listeners()], DRAIN_SECONDS)),
            ]
            is_reloading = self._loop(stop, parts, watched)
            ending_at = time.monotonic()
        processes.end(max(ending_at + END_SECONDS - time.monotonic(), 0.0))
        if is_reloading and not stop.is_set():
            reload.begin_anew()
        if not stop.is_set():
            sys.exit(1)

    def _loop(
        self, stop: threading.Event, parts: list[Background | Runner | Worker], watched: reload.Watched | None
    ) -> bool:
        """Until the process is to stop or a part has died; or a file has changed, which it says."""
        heartbeat, housekeeper = Heartbeat("listener"), Housekeeper(keep_going=lambda: not stop.is_set())
        away = changed = False
        while not stop.is_set() and not changed and all(part.is_alive() for part in parts):
            try:
                heartbeat.beat()
                wait = min(housekeeper.run_due(), RENEW_SECONDS)
                away = False
            except Unavailable as error:
                if not away:
                    log.warning("the database is away", extra={"error": error.detail})
                away, wait = True, 1.0
                close_old_connections()
            stop.wait(max(min(wait, LOOK_SECONDS if watched else wait), 0.05))
            if watched is not None and (files := watched.changed()):
                log.info("files have changed, beginning anew", extra={"files": [str(path) for path in files]})
                changed = True
        if not away:
            heartbeat.end()
        return changed
