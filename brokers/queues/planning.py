"""Reading messages in the order of an index, a few of many.

While statistics lag behind a burst of messages, sorting all that a queue holds seems cheap to PostgreSQL's planner.
Called by whatever takes messages in steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import transaction

from brokers.database import sync_cursor
from brokers.sql import load

SQL = load("planning")

BY_INDEX = SQL.by_index
"""The statement that says so for the rest of a transaction."""


@contextmanager
def by_index() -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
    """A cursor in a transaction, the caller's if one is open, whose statements read in the order of an index."""
    with transaction.atomic(), sync_cursor() as cursor:
        cursor.execute(BY_INDEX)
        yield cursor
