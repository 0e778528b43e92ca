"""Logging and metrics of a process.

Logs go to standard error, one line each: JSON where nobody watches, readable on a terminal. Metrics are those of
`brokers.metrics`, `realtime.metrics` and `scheduling.metrics`, gathered over all processes of the server when
`PROMETHEUS_MULTIPROC_DIR` is set (`up` does).
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, generate_latest, multiprocess

from brokers.errors import Unavailable
from brokers.metrics import Collected, StoreCollector
from messaging_site import metric_files

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
    if directory is None:
        return generate_latest(REGISTRY) + _store_exposition()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    with metric_files.looking(Path(directory)):
        counted = generate_latest(registry)
    return counted + _store_exposition()


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
