"""`manage.py listen`: a listener worker. It keeps house for the log and the consumer groups until it is stopped."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from typing import Any

from django.core.management.base import BaseCommand
from django.db import close_old_connections

from brokers import declarations
from brokers.errors import Unavailable
from brokers.housekeeping import Background, Housekeeper
from brokers.processes import RENEW_SECONDS, Heartbeat

log = logging.getLogger("waystation.listen")


class Command(BaseCommand):
    """Runs until SIGTERM or SIGINT, then ends what it is doing and exits with 0."""

    help = "Runs a listener worker: housekeeping of the log and of the consumer groups."

    def handle(self, *args: Any, **options: Any) -> None:
        """Loops over what is due; while the database is away it tries again each second."""
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        declarations.discover()
        with Background() as background:
            self._loop(stop, background)
        if not stop.is_set():
            sys.exit(1)

    def _loop(self, stop: threading.Event, background: Background) -> None:
        heartbeat, housekeeper = Heartbeat("listener"), Housekeeper(keep_going=lambda: not stop.is_set())
        away = False
        while not stop.is_set() and background.is_alive():
            try:
                heartbeat.beat()
                wait = min(housekeeper.run_due(), RENEW_SECONDS)
                away = False
            except Unavailable as error:
                if not away:
                    log.warning("the database is away", extra={"error": error.detail})
                away, wait = True, 1.0
                close_old_connections()
            stop.wait(max(wait, 0.05))
        if not away:
            heartbeat.end()
