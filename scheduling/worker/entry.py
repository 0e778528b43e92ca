"""What a Celery worker does when the bell rings, and when its processes begin and end. Imported by Celery alone."""

from __future__ import annotations

from typing import Any, Final

from celery import signals

from brokers import declarations
from scheduling.celery_app import TASK, app
from scheduling.executors import reporter
from scheduling.worker.performing import Performer
from scheduling.worker.several import Several

END_SECONDS: Final = 4.5
"""What executors have at the end of a process: less than `up` waits before it kills."""

_performers: list[Performer] = []
"""This process's one, made when it is first needed: a thread does not survive a fork."""


@app.task(name=TASK, ignore_result=True, acks_late=True)  # type: ignore[untyped-decorator]  # the library has no types
def run(*runs: int) -> None:
    """Does the runs of these ids, unless somebody else does."""
    if not _performers:
        _performers.append(Performer())
    if len(runs) == 1:
        _performers[0].perform(runs[0])
    else:
        Several(runs).perform(_performers[0].perform)


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def _discover(**_: Any) -> None:
    declarations.discover()


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _begin(**_: Any) -> None:
    reporter.begin(reporter.WORKER)


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _end(**_: Any) -> None:
    reporter.end(END_SECONDS)
    for performer in _performers:
        performer.close()
