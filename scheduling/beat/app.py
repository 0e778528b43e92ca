"""The Celery app of beats, `celery -A scheduling.beat.app beat`: it loads their scheduler before Celery takes signals.

Celery would import it after that, and a SIGTERM in the middle of the import ends in a stack trace.
"""

from __future__ import annotations

from scheduling.celery_app import app

__all__ = ["app"]

app.conf.imports = (*app.conf.imports, "scheduling.beat.scheduler")
