"""The Celery app: how runs reach workers. What a run is, and whether it was done, the database knows.

`celery -A scheduling.celery_app worker` and `... beat` start the processes; `up` does. An application may declare
Celery tasks of its own with `@shared_task`; operators schedule those on the periodic tasks' pages.
"""

from __future__ import annotations

import logging
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from celery import Celery, signals
from django.conf import settings

TASK: Final = "waystation.run"


def broker_url(redis_url: str) -> str:
    """Celery's form of a Redis URL: a Unix socket is written in another way there."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.path}?virtual_host={database}"


app = Celery("waystation")
app.conf.update(
    broker_url=broker_url(settings.REDIS_URL),
    broker_connection_retry_on_startup=True,
    broker_transport_options={"socket_connect_timeout": 1.0, "socket_timeout": 30.0},
    accept_content=["json"],
    task_serializer="json",
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_send_task_events=False,
    beat_max_loop_interval=1,
    beat_enable_remote_control=False,
    timezone="UTC",
    imports=("scheduling.worker.entry",),
)


app.autodiscover_tasks()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # the library has no types
def _logging_is_ours(**_: Any) -> None:
    """A receiver keeps Celery from configuring the logging that Django's settings have configured."""
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)  # two lines for each run say less than our one
