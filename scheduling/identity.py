"""What tells one database's servers from another's, where both share a Redis: the name of Celery's queue."""

from __future__ import annotations

import functools

from django.db import connection

from brokers.database import sync_cursor

PREFIX = "waystation-"


@functools.cache
def queue_name() -> str:
    """The queue of Celery that the workers of this database listen to. Asks the database once a process."""
    with sync_cursor() as cursor:
        row = cursor.execute("select id from scheduling_installation").fetchone()
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()
    assert row is not None
    return f"{PREFIX}{row[0].hex}"
