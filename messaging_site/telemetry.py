"""Logging and metrics of a process.

Logs go to standard error, one line each: JSON where nobody watches, readable on a terminal. Metrics are those of
`brokers.metrics`, `realtime.metrics` and `scheduling.metrics`, gathered over all processes of the server when
`PROMETHEUS_MULTIPROC_DIR` is set (`up` does).
"""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, generate_latest, multiprocess

from brokers.errors import Unavailable
from brokers.metrics import Collected, StoreCollector

_LIVE_GAUGES = re.compile(r"gauge_live[a-z]*_([0-9]+)\.db")

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logging(config: dict[str, Any]) -> None:
    """Django's LOGGING_CONFIG: one handler on standard error; control characters in text are escaped."""
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer(ensure_ascii=True)
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info if not sys.stderr.isatty() else _unchanged,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("django.request").setLevel(logging.ERROR)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def _unchanged(logger: Any, name: str, event: Any) -> Any:
    return event


def exposition() -> bytes:
    """The Prometheus text of this installation."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory is not None:
        _forget_the_dead(Path(directory))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry = REGISTRY
    return generate_latest(registry) + _store_exposition()


def _forget_the_dead(directory: Path) -> None:
    """Takes out gauges of processes that are gone: `up` knows of those that it started, and not of their children."""
    for path in directory.iterdir():
        found = _LIVE_GAUGES.fullmatch(path.name)
        if found is not None and not _lives(int(found[1])):
            path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _store_exposition() -> bytes:
    """What the database holds for all processes; nothing while it is away, which the gauge says."""
    store = CollectorRegistry()
    up = Gauge("waystation_database_up", "Whether the database answered", registry=store)
    try:
        figures = list(StoreCollector().collect())
    except Unavailable:
        return generate_latest(store)
    up.set(1)
    store.register(Collected(figures))
    return generate_latest(store)
